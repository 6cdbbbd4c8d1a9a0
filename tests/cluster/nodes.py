"""Two nodes of a Ray cluster on this machine, and the processes of a run on them."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")

_TRIES = 20
"""Ray gives the agents of a node 15 seconds to start, which cannot be set. A busy machine may need more."""

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_memory_monitor_refresh_ms": "0",  # other programs use memory, too
    "RAY_gcs_rpc_server_reconnect_timeout_s": "3600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_health_check_failure_threshold": "10000",  # this machine may be busy
}


class Cluster:
    """A head with one core and a second node with one core. Each node is a group of processes."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self.environment = {**os.environ, **environment, **_SETTINGS, "PYTHONPATH": str(ROOT)}
        self._nodes: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def start(self) -> None:
        """Start both nodes."""
        for _ in range(_TRIES):
            port = free_port()
            if self._add("--head", f"--port={port}", "--include-dashboard=false"):
                self.address = f"127.0.0.1:{port}"
                break
        else:
            raise RuntimeError("the head did not start; see " + str(self._folder))
        for _ in range(_TRIES):
            if self._add(f"--address={self.address}"):
                return
        raise RuntimeError("the second node did not start; see " + str(self._folder))

    def _add(self, *options: str) -> bool:
        log = self._folder / f"node-{len(list(self._folder.iterdir()))}.log"
        memory = "--object-store-memory=100000000"
        command = [
            str(RAY),
            "start",
            "--node-ip-address=127.0.0.1",
            "--num-cpus=1",
            memory,
            "--block",
            *options,
        ]
        with log.open("wb") as stream:
            node = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=stream, stderr=stream, start_new_session=True
            )
        while b"Ray runtime started" not in log.read_bytes():
            if node.poll() is not None or b"timed out during startup" in log.read_bytes():
                end(node)
                return False
            time.sleep(0.2)
        self._nodes.append(node)
        return True

    def stop(self) -> None:
        """End the nodes that were started here."""
        for node in reversed(self._nodes):
            end(node)

    def processes(self) -> Iterator[psutil.Process]:
        """Return all processes of the nodes."""
        for node in self._nodes:
            with suppress(psutil.NoSuchProcess):
                yield from psutil.Process(node.pid).children(recursive=True)

    def actors(self) -> list[psutil.Process]:
        """Return the processes that score."""
        found = []
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                if "_Actor" in " ".join(process.cmdline()):
                    found.append(process)
        return found


def end(node: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    """End a program and all that it started."""
    started = []
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(node.pid).children(recursive=True)
    node.terminate()
    with suppress(subprocess.TimeoutExpired):
        node.wait(20)
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    node.kill()
    node.wait()
    if node.stderr is not None:
        node.stderr.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait without a limit: programs may be stopped for minutes."""
    while not condition():
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
