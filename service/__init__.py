"""The HTTP service: reads a bundle, answers images with probabilities and overlays.

Importing it loads neither TensorFlow nor Keras, and ONNX Runtime only once a bundle is loaded.
"""
