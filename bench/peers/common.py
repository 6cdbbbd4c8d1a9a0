"""What is equal for all peers: their options, the decoding and the run of the ONNX file."""

import argparse
import json
import os
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from models.labels import HAM10000_LABELS
from models.preprocess import decode as decode_file

CODES = tuple(label.code for label in HAM10000_LABELS)
"""Of the columns of the model's probabilities."""

Answer = dict[str, dict[str, float]]
"""``{"probabilities": {code: p, ...}}``."""

_VARIABLE = "DERMASERVE_BENCH_PEER"


class Options(NamedTuple):
    """What every peer is told on its command line, see ``Peer.command``."""

    model: Path
    port: int
    workers: int
    threads: int
    max_batch_size: int
    batch_timeout: float  # seconds

    @classmethod
    def from_arguments(cls) -> Self:
        """Read ``sys.argv``."""
        parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        parser.add_argument("--model", type=Path, required=True, help="the ONNX file")
        parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1")
        parser.add_argument("--workers", type=int, default=1, help="copies of the model")
        parser.add_argument("--threads", type=int, default=1, help="intra-op threads of each copy")
        parser.add_argument("--max-batch-size", type=int, default=8, help="images in a batch at most")
        parser.add_argument("--batch-timeout", type=float, default=0.005, help="seconds to wait for more")
        return cls(**vars(parser.parse_args()))

    @classmethod
    def from_environment(cls) -> Self:
        """Read what ``to_environment`` wrote, in a process that the server itself started."""
        values = json.loads(os.environ[_VARIABLE])
        return cls(**{**values, "model": Path(values["model"])})

    def to_environment(self) -> None:
        """Leave them to the processes that the server starts."""
        os.environ[_VARIABLE] = json.dumps({**self._asdict(), "model": str(self.model)})


def decode(data: bytes) -> np.ndarray:
    """An image file as uint8 ``[224, 224, 3]``."""
    return decode_file(data).pixels


def answers(probabilities: np.ndarray) -> list[Answer]:
    """The answer for each row of ``probabilities``, float ``[N, 7]``."""
    return [{"probabilities": dict(zip(CODES, row, strict=True))} for row in probabilities.tolist()]


class Classifier:
    """An ONNX Runtime session: ``threads`` intra-op threads, all else as ONNX Runtime has it."""

    def __init__(self, options: Options) -> None:
        # Imported here: the peer that runs Keras has none.
        import onnxruntime

        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = options.threads
        self._session = onnxruntime.InferenceSession(
            options.model, session_options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def probabilities(self, images: list[np.ndarray]) -> np.ndarray:
        """Float32 ``[N, 7]`` for N ``images``, uint8 ``[224, 224, 3]``, run as one batch."""
        return np.asarray(self._session.run(["probabilities"], {self._input: np.stack(images)})[0])

    def __call__(self, images: list[np.ndarray]) -> list[Answer]:
        """The answer for each of ``images``, see ``probabilities``."""
        return answers(self.probabilities(images))
