"""Runs and optimises an exported graph with ONNX Runtime."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

OUTPUTS = ("probabilities", "cams", "disagreement", "ood_score")


def run_graph(
    path: Path, images: np.ndarray, *, batch_size: int, metadata: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Run the graph in ``path`` on the CPU.

    Args:
        path: the ONNX file.
        images: uint8 ``[N, H, W, C]``.
        batch_size: number of images per run.
        metadata: float32 ``[N, columns]`` for a second input. None means that nothing is known.

    Returns:
        The outputs by name; ``models.manifest.schema.Manifest`` states their shapes.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {"image": images}
    for node in session.get_inputs():
        if node.name != "image":
            zeros = np.zeros((len(images), node.shape[1]), np.float32)
            inputs[node.name] = zeros if metadata is None else metadata
    runs = [
        session.run(OUTPUTS, {name: values[start : start + batch_size] for name, values in inputs.items()})
        for start in range(0, len(images), batch_size)
    ]
    return {name: np.concatenate([outputs[index] for outputs in runs]) for index, name in enumerate(OUTPUTS)}


def optimise(model: Any) -> Any:
    """Apply ONNX Runtime's optimisations of level "basic" to an ``onnx.ModelProto``.

    They fold constants, and move batch normalisation and padding into convolutions. Higher levels, which are
    applied at every start, may use operations that only some processors support.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        options.optimized_model_filepath = str(file)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        optimised = onnx.load(file)
    # ONNX Runtime imports all operator sets that it knows, which other runtimes may not know.
    used = {node.domain for node in optimised.graph.node}
    for operations in [known for known in optimised.opset_import if known.domain not in used]:
        optimised.opset_import.remove(operations)
    return optimised
