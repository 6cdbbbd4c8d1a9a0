"""Pixels to what the model says of them: batching, ONNX Runtime, decision, warnings, overlay."""
