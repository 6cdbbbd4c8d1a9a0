"""An exported graph in ONNX Runtime: run on the CPU as the service runs it, or optimised."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

OUTPUTS = ("probabilities", "cams", "disagreement", "ood_score")


def run_graph(path: Path, images: np.ndarray, *, batch_size: int) -> dict[str, np.ndarray]:
    """All outputs of the graph in ``path`` for uint8 images ``[N, H, W, C]``, by name."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    runs = [
        session.run(OUTPUTS, {"image": images[start : start + batch_size]})
        for start in range(0, len(images), batch_size)
    ]
    return {name: np.concatenate([outputs[index] for outputs in runs]) for index, name in enumerate(OUTPUTS)}


def optimise(model: Any) -> Any:
    """``model``, an ``onnx.ModelProto``, after ONNX Runtime's optimisations that know no processor.

    Those of level "basic": constants folded, batch normalisation and padding put into convolutions. The
    higher ones, done at every start, may leave operations that only one kind of machine knows.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        options.optimized_model_filepath = str(file)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        optimised = onnx.load(file)
    # It names every set of operations it knows; another runtime may not.
    used = {node.domain for node in optimised.graph.node}
    for operations in [known for known in optimised.opset_import if known.domain not in used]:
        optimised.opset_import.remove(operations)
    return optimised
