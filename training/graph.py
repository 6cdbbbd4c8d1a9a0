"""An exported graph, run by ONNX Runtime on the CPU as the service runs it."""

from pathlib import Path

import numpy as np
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
