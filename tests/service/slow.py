"""Inference that waits until it is told to go on."""

import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.inference.onnx_session import OnnxSession, Outputs


class Slow:
    """Stands in for ``OnnxSession.run`` and waits until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.started = threading.Event()
        self.sizes: list[int] = []
        self.fail_on: set[int] = set()
        self.error: Exception = RuntimeError("/secret/path: a library's words")
        real = OnnxSession.run

        def run(predictor: OnnxSession, batch: NDArray[np.uint8], *metadata: Any) -> Outputs:
            self.sizes.append(len(batch))
            self.started.set()
            assert self.go.wait(20)
            if len(batch) in self.fail_on:
                raise self.error
            return real(predictor, batch, *metadata)

        self._run = run
        self._monkeypatch = monkeypatch

    def patch(self) -> None:
        self._monkeypatch.setattr(OnnxSession, "run", self._run)
