"""Runs ``python -m service`` as a process, for tests over real sockets."""

import contextlib
import fcntl
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import httpx

from tests.service.app_client import wait_for

ROOT = Path(__file__).parents[2]


_PORTS = Path(tempfile.gettempdir()) / "dermaserve-test-ports"
_reserved: list[IO[bytes]] = []


def free_port() -> int:
    """Return a free TCP port below the range that the system gives to clients.

    It is reserved until this process ends, for other processes of tests: a server listens seconds later.
    """
    _PORTS.mkdir(exist_ok=True)
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            lock = stack.enter_context((_PORTS / str(port)).open("wb"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as free:
                free.bind(("127.0.0.1", port))
            stack.pop_all()
            _reserved.append(lock)
            return port


class Process:
    """``python -m service`` on a free port, with its output in a file.

    Args:
        folder: where the output goes, as ``service.log``; appended to.
        bundle: the bundle's folder.
        program: Python code to run in place of ``-m service``.
        port: 0 takes a free one.
        host: address to listen on.
        options: of ``subprocess.Popen``; ``env`` is added to the environment.
        **settings: without their prefix, in capitals.
    """

    def __init__(
        self,
        folder: Path,
        bundle: Path,
        *,
        program: str = "",
        port: int = 0,
        host: str = "127.0.0.1",
        options: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://{host}:{self.port}"
        own = {"BUNDLE": bundle, "HOST": host, "PORT": self.port, "DEVICE": "cpu", "DRAIN_PAUSE": 0.3}
        own |= settings
        options = dict(options or {})
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DERMASERVE_")}
        environment |= {f"DERMASERVE_{name}": str(value) for name, value in own.items()}
        environment |= options.pop("env", {})
        self._log = (folder / "service.log").open("a+")
        defaults: dict[str, Any] = {"cwd": ROOT, "stdout": self._log, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(
            [sys.executable, *(("-c", program) if program else ("-m", "service"))],
            env=environment,
            **(defaults | options),
        )

    def status(self, path: str) -> int:
        """Return the status of ``GET path``, or 0 without a response."""
        try:
            return httpx.get(self.url + path).status_code
        except httpx.TransportError:
            return 0

    def wait_ready(self) -> None:
        """Wait until the process is ready. Fail with its output if it ends instead."""
        wait_for(lambda: self.status("/readyz") == 200 or self.process.poll() is not None, 600)
        assert self.process.poll() is None, self.output()

    def output(self) -> str:
        """Return the output so far."""
        self._log.seek(0)
        return self._log.read()

    def end(self) -> None:
        """Kill the process if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._log.close()


@contextlib.contextmanager
def process(folder: Path, bundle: Path, **options: Any) -> Iterator[Process]:
    """Start a ``Process`` and end it with the block."""
    running = Process(folder, bundle, **options)
    try:
        yield running
    finally:
        running.end()
