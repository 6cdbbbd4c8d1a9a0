"""Offline training: HAM10000 images to a verified bundle. Run ``python -m training --help``."""

import os

# ONNX Runtime reports its use to its maker unless told not to before it is loaded; see its Privacy.md.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
