"""Inference that blocks until a test releases it."""

import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.inference.onnx_session import OnnxSession, Outputs
from tests.service.app_client import Client, wait_for


class BlockedInference:
    """Replaces ``OnnxSession.run``. Inference blocks until ``released`` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.released = threading.Event()
        self.started = threading.Event()
        self.sizes: list[int] = []
        self.alone: list[bool] = []
        self.fail_on: set[int] = set()
        self.error: Exception = RuntimeError("/secret/path: a library's words")
        real = OnnxSession.run

        def run(
            predictor: OnnxSession, batch: NDArray[np.uint8], metadata: Any = None, alone: bool = False
        ) -> Outputs:
            self.sizes.append(len(batch))
            self.alone.append(alone)
            self.started.set()
            assert self.released.wait(20)
            if len(batch) in self.fail_on:
                raise self.error
            return real(predictor, batch, metadata, alone)

        self._run = run
        self._monkeypatch = monkeypatch

    def patch(self) -> None:
        self._monkeypatch.setattr(OnnxSession, "run", self._run)

    def statuses(self, client: Client, jpeg: bytes, *, waiting: int) -> list[int]:
        """Send one image, and ``waiting`` more that form the next batch; release all."""
        headers = {"content-type": "image/jpeg"}
        self.patch()
        futures = [client.begin("POST", "/predict", content=jpeg, headers=headers)]
        assert self.started.wait(20)
        futures += [client.begin("POST", "/predict", content=jpeg, headers=headers) for _ in range(waiting)]
        wait_for(lambda: f"queue_depth {waiting}.0" in client.get("/metrics").text)
        self.released.set()
        return [future.result(20).status_code for future in futures]
