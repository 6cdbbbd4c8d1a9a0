"""Inference: batching, ONNX Runtime, the decision rule, warnings and overlays."""
