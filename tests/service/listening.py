"""An application behind a real listener in this process, for tests that send bytes over a socket."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from service.app import create_app
from service.lifecycle import Runtime
from service.server import _config
from tests.service.app_client import settings_for, wait_for


class Listening:
    """A server on a free port.

    Attributes:
        runtime: of its app.
        port: on 127.0.0.1.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        app = create_app(runtime.settings, runtime)
        self._server = uvicorn.Server(_config(app, "127.0.0.1", 0, runtime))
        self._thread = threading.Thread(target=self._server.run)

    def start(self) -> None:
        self._thread.start()
        wait_for(lambda: self._server.started and self.runtime.ready)
        self.port: int = self._server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def shrink_send_buffers(self) -> None:
        """Make the system hold little that clients have not read, on connections made from now on."""
        for listener in self._server.servers[0].sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def sample(self, name: str, **labels: str) -> float:
        """Return the value of a metric, or 0 if there is none with these labels."""
        return self.runtime.metrics.registry.get_sample_value(f"dermaserve_{name}", labels) or 0.0


@contextlib.contextmanager
def listening(bundle: Path, **changes: Any) -> Iterator[Listening]:
    """Serve ``bundle`` with settings changed from those of ``settings_for``."""
    server = Listening(Runtime(settings_for(bundle, **changes)))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def read_to_end(connection: socket.socket) -> bytes:
    """Read until the server closes or resets the connection."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65_536):
            answer += data
    return answer
