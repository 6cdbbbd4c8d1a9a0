"""A synchronous client of an application in this process, by ASGI messages without sockets."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from service.app import create_app
from service.inference.onnx_session import Outputs
from service.lifecycle import Runtime
from service.settings import Settings


class Client:
    """Runs the lifespan and the requests of an application on an event loop in a thread."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.app = create_app(runtime.settings, runtime)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False),
            base_url="http://service",
            timeout=60,
        )

    def start(self) -> None:
        self._thread.start()
        self._lifespan = self.app.router.lifespan_context(self.app)
        self.call(self._lifespan.__aenter__())

    def stop(self) -> None:
        try:
            self.call(self._lifespan.__aexit__(None, None, None))
            self.call(self._client.aclose())
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()

    def call(self, work: Any) -> Any:
        """Run a coroutine on the event loop of the application and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def begin(self, method: str, url: str, **options: Any) -> "Future[httpx.Response]":
        """Start a request without waiting for its response."""
        if isinstance(content := options.get("content"), Iterator):
            options["content"] = _later(content)
        return asyncio.run_coroutine_threadsafe(self._client.request(method, url, **options), self.loop)

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        return self.begin(method, url, **options).result(60)

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> httpx.Response:
        return self.request("POST", url, **options)


async def _later(chunks: Iterator[bytes]) -> Any:
    for chunk in chunks:
        await asyncio.sleep(0.001)  # a client that never waits would keep the loop to itself
        yield chunk


def said(probabilities: Sequence[float], *, disagreement: float = 0.0, ood_score: float = 0.0) -> Outputs:
    """Build the graph's outputs for one image, with zero heatmaps, for a patched ``OnnxSession.run``."""
    return Outputs(
        np.array([probabilities], np.float32),
        np.zeros((1, len(probabilities), 7, 7), np.float32),
        np.array([disagreement], np.float32),
        np.array([ood_score], np.float32),
    )


def settings_for(bundle: Path, **changes: Any) -> Settings:
    fields: dict[str, Any] = {
        "bundle": bundle,
        "device": "cpu",
        "inference_workers": 1,
        "intra_op_threads": 1,
    }
    fields |= {"decode_workers": 2}
    return Settings(**(fields | changes))


@contextmanager
def running(bundle: Path, **changes: Any) -> Iterator[Client]:
    """Yield a client of an application that is ready, or has failed to load its model."""
    runtime = Runtime(settings_for(bundle, **changes))
    door = Client(runtime)
    door.start()
    try:
        wait_for(lambda: runtime.ready or runtime.failure is not None)
        yield door
    finally:
        door.stop()


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.005)
