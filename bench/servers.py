"""A server as a child process."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from bench.peers import ROOT, Peer
from bench.processes import Usage, cpu_seconds, family, usage
from models.errors import DermaserveError
from service.system.cpus import usable_cpus

_GRACE = 20.0  # seconds to stop


class ServerError(DermaserveError):
    """A server does not start, or does not get ready."""


class Server:
    """One server with all its processes; use as a context manager.

    Attributes:
        port: where it listens, on 127.0.0.1.
        ready_after: seconds from its start to its first 200 on ``ready_path``.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int,
        ready_path: str,
        log: Path,
        environment: Mapping[str, str] | None = None,
        timeout: float = 180.0,
    ) -> None:
        """Describe it.

        Args:
            command: its arguments, the program first; run in the repository's root.
            port: that the command names.
            ready_path: answers 200 to GET once the server can predict.
            log: its output; errors quote the end of it.
            environment: added to the variables of this process, without those that set this service.
            timeout: seconds to get ready.
        """
        self.port = port
        self.ready_after = 0.0
        self._command, self._ready_path, self._log, self._timeout = list(command), ready_path, log, timeout
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DERMASERVE_")}
        self._environment = inherited | {"PYTHONPATH": str(ROOT)} | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it and wait until it is ready.

        Raises:
            ServerError: it ends before, or takes too long.
        """
        start = time.perf_counter()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    self._command,
                    cwd=ROOT,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # by which its processes are found and stopped
                )
            except OSError as error:
                raise ServerError(f"cannot be started: {error}") from error
        try:
            while not self._ready():
                if self._process.poll() is not None:
                    raise ServerError(f"ended with {self._process.returncode}: {self._last_lines()}")
                if time.perf_counter() - start > self._timeout:
                    raise ServerError(f"not ready after {self._timeout:.0f} s: {self._last_lines()}")
                time.sleep(0.01)
        except BaseException:
            self.stop()
            raise
        self.ready_after = time.perf_counter() - start
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop it."""
        self.stop()

    @property
    def leader(self) -> int:
        """Id of its first process.

        Raises:
            ServerError: it has not been started.
        """
        if self._process is None:
            raise ServerError("has not been started")
        return self._process.pid

    def usage(self) -> Usage:
        """Memory of all its processes.

        Raises:
            ServerError: it has ended.
        """
        found = usage(self.leader)
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"has ended: {self._last_lines()}")
        return found

    def idle_cpu(self, seconds: float) -> float:
        """Share of one core that it uses in the next ``seconds``."""
        before, start = cpu_seconds(self.leader), time.perf_counter()
        time.sleep(seconds)
        return (cpu_seconds(self.leader) - before) / (time.perf_counter() - start)

    def stop(self) -> None:
        """Send SIGTERM to its process group, and SIGKILL to every process left after a while."""
        if self._process is None:
            return
        members = family(self._process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        self._process = None

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", self._ready_path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _last_lines(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-3:])[-600:] or "without output"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def our_service(python: Path, *, log: Path, bundle: Path | None = None, device: str = "cpu") -> Server:
    """This service as ``make serve`` starts it, on a free port.

    Args:
        python: of the environment of this service.
        log: for its output.
        bundle: in place of the shipped one.
        device: ``cpu`` or ``cuda``.
    """
    port = free_port()
    settings = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DEVICE": device,
        "LOG_FORMAT": "text",
        "DRAIN_PAUSE": "0",
        "MAX_QUEUE_SIZE": "512",  # above the number of clients, so that it refuses none
    }
    if bundle is not None:
        settings["BUNDLE"] = str(bundle)
    environment = {f"DERMASERVE_{name}": value for name, value in settings.items()}
    command = [str(python), "-m", "service"]
    return Server(command, port=port, ready_path="/readyz", log=log, environment=environment)


def peer_server(peer: Peer, *, model: Path, log: Path) -> Server:
    """A peer on a free port, using all cores."""
    port = free_port()
    variables = peer.variables(model=model.absolute(), port=port, cores=usable_cpus())
    command = [str(peer.python), "-m", peer.module]
    return Server(command, port=port, ready_path=peer.ready_path, log=log, environment=variables)
