"""Trains classifiers on HAM10000 and exports them as bundles. Run ``python -m training --help``."""

import os

# ONNX Runtime sends usage data unless this is set before it is loaded; see its Privacy.md.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
