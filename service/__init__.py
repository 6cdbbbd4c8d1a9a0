"""The HTTP service: reads a bundle, answers images with probabilities and overlays.

Importing it loads neither TensorFlow nor Keras, and ONNX Runtime only once a bundle is loaded.
"""

import os

# ONNX Runtime reports its use to its maker unless told not to before it is loaded; see its Privacy.md.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
