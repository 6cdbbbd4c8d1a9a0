"""What all peers share: their options, the decoder and the run of the ONNX file."""

import argparse
import json
import os
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from models.labels import HAM10000_LABELS
from models.preprocess import decode as decode_file

CODES = tuple(label.code for label in HAM10000_LABELS)
"""The columns of the probabilities."""

Answer = dict[str, dict[str, float]]
"""``{"probabilities": {code: p, ...}}``."""

_VARIABLE = "DERMASERVE_BENCH_PEER"


class Options(NamedTuple):
    """The command line of every peer, see ``Peer.command``."""

    model: Path
    port: int
    workers: int
    threads: int

    @classmethod
    def from_arguments(cls) -> Self:
        """Read ``sys.argv``."""
        parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        parser.add_argument("--model", type=Path, required=True, help="the ONNX file")
        parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1")
        parser.add_argument("--workers", type=int, default=1, help="copies of the model")
        parser.add_argument("--threads", type=int, default=1, help="intra-op threads of each copy")
        return cls(**vars(parser.parse_args()))

    @classmethod
    def from_environment(cls) -> Self:
        """Read what ``to_environment`` wrote, in a process that the server started."""
        values = json.loads(os.environ[_VARIABLE])
        return cls(**{**values, "model": Path(values["model"])})

    def to_environment(self) -> None:
        """Pass them on to the processes that the server starts."""
        os.environ[_VARIABLE] = json.dumps({**self._asdict(), "model": str(self.model)})


def decode(data: bytes) -> np.ndarray:
    """An image file as uint8 ``[224, 224, 3]``."""
    return decode_file(data).pixels


class Classifier:
    """An ONNX Runtime session: ``threads`` intra-op threads, every other option at its default."""

    def __init__(self, options: Options) -> None:
        import onnxruntime  # the environment of the peer that runs Keras has none

        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = options.threads
        self._session = onnxruntime.InferenceSession(
            options.model, session_options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def __call__(self, data: bytes) -> Answer:
        """Decode an image file and classify it."""
        return answer(self._session.run(["probabilities"], {self._input: decode(data)[np.newaxis]})[0])


def answer(probabilities: Any) -> Answer:
    """The answer with ``probabilities``, float ``[1, 7]``."""
    return {"probabilities": dict(zip(CODES, probabilities[0].tolist(), strict=True))}
