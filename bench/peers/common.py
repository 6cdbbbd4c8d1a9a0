"""What all peers share: the run of the ONNX file, and the form of the answer."""

from typing import Any

import numpy as np

from bench.graph_inputs import graph_inputs
from bench.peers import Options
from models.labels import HAM10000_LABELS
from models.preprocess import decode

CODES = tuple(label.code for label in HAM10000_LABELS)
"""The columns of the probabilities."""

Answer = dict[str, dict[str, float]]
"""``{"probabilities": {code: p, ...}}``."""


class Classifier:
    """An ONNX Runtime session: ``threads`` intra-op threads, every other option at its default."""

    def __init__(self, options: Options) -> None:
        import onnxruntime  # absent from the environment of the peer that runs Keras

        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = options.threads
        self._session = onnxruntime.InferenceSession(
            options.model, session_options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, data: bytes) -> Answer:
        """Decode an image file and classify it."""
        inputs = graph_inputs(self._session, decode(data).pixels[np.newaxis])
        return answer(self._session.run(["probabilities"], inputs)[0])


def answer(probabilities: Any) -> Answer:
    """The answer with ``probabilities``, float ``[1, 7]``."""
    return {"probabilities": dict(zip(CODES, probabilities[0].tolist(), strict=True))}
