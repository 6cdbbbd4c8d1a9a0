"""Restarts one after the other behind a load balancer, and reloads, both under load: ``make rolling``.

No request may fail. Prints what clients saw of it.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

import models
from tests.long.balancer import Balancer
from tests.long.crowd import HEAD, Crowd
from tests.long.good_requests import samples_of
from tests.service.app_client import wait_for
from tests.service.process import Process, free_port, process
from training.markdown import table

_PAUSE = 1.0
"""DRAIN_PAUSE in seconds: ten times what the balancer needs to notice."""

_QUIET = 1.0
"""Seconds of load between two events."""


def rolling_restarts(bundle: Path, folder: Path, *, rounds: int, clients: int) -> tuple[Crowd, list[float]]:
    """Restart two servers in turn; returns what clients saw, and the seconds that each restart took."""
    ports = [free_port(), free_port()]
    servers: dict[int, Process] = {}

    def start(port: int) -> None:
        servers[port] = Process(folder, bundle, port=port, DRAIN_PAUSE=_PAUSE)
        servers[port].wait_ready()

    def restart(port: int) -> float:
        begun, old = time.monotonic(), servers[port]
        old.process.send_signal(signal.SIGTERM)
        status = old.process.wait(90)
        assert status == 0, f"exit status {status}: {old.output()[-2000:]}"
        old.end()
        start(port)
        wait_for(lambda: port in balancer.ready)
        return time.monotonic() - begun

    took = []
    try:
        for port in ports:
            start(port)
        samples = samples_of(servers[ports[0]].url)
        with Balancer(ports) as balancer:
            with Crowd(f"http://127.0.0.1:{balancer.port}", samples, clients=clients) as crowd:
                for port in ports * rounds:
                    time.sleep(_QUIET)
                    took.append(restart(port))
                time.sleep(_QUIET)
            assert balancer.unserved == 0
    finally:
        for server in servers.values():
            server.end()
    return crowd, took


def reloads(bundle: Path, folder: Path, *, rounds: int, clients: int) -> tuple[Crowd, list[float]]:
    """ReloadOutcome the model by SIGHUP, good and bad bundles in turn; the same figures."""
    copy = folder / "bundle"
    shutil.copytree(bundle, copy)
    manifest, model = copy / "manifest.json", copy / "model.onnx"
    fields, graph = json.loads(manifest.read_text()), model.read_bytes()

    def exchange(number: int) -> float:
        version = f"9.9.{number}"
        _replace(manifest, json.dumps(fields | {"version": version}).encode())
        seconds = _signal(server, lambda: version in _readyz(server))
        time.sleep(_QUIET)
        _replace(model, graph[:-1] + bytes([graph[-1] ^ 1]))
        _signal(server, lambda: _refused(server) == number)
        assert version in _readyz(server), "a bad bundle was taken"
        _replace(model, graph)
        return seconds

    took = []
    with process(folder, copy) as server:
        server.wait_ready()
        with Crowd(server.url, samples_of(server.url), clients=clients) as crowd:
            for number in range(1, rounds + 1):
                time.sleep(_QUIET)
                took.append(exchange(number))
            time.sleep(_QUIET)
    return crowd, took


def _signal(server: Process, done: Callable[[], bool]) -> float:
    """Send SIGHUP; seconds until ``done``."""
    begun = time.monotonic()
    server.process.send_signal(signal.SIGHUP)
    wait_for(done, 90)
    return time.monotonic() - begun


def _readyz(server: Process) -> str:
    return httpx.get(server.url + "/readyz", timeout=30).text


def _refused(server: Process) -> float:
    """Bundles that were refused so far."""
    text = httpx.get(server.url + "/metrics", timeout=30).text
    lines = [
        line
        for line in text.splitlines()
        if line.startswith("dermaserve_reloads_total{") and "refused" in line
    ]
    return sum(float(line.split()[-1]) for line in lines)


def _replace(path: Path, content: bytes) -> None:
    """ReloadOutcome a file whole, as whoever replaces a bundle does."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


def main() -> int:
    """Run the command line; the exit status is 1 when a request failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.long.rolling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--bundle", type=Path, default=Path(models.__file__).parent / "ham10000-ensemble")
    options = parser.parse_args()
    rows, failed = [], 0
    for name, trial in (("rolling restart", rolling_restarts), ("hot reload", reloads)):
        with tempfile.TemporaryDirectory() as folder:
            crowd, took = trial(options.bundle, Path(folder), rounds=options.rounds, clients=options.clients)
        rows.append([name, len(took), f"{max(took):.1f}", *crowd.row()])
        failed += len(crowd.failed)
        for reason in crowd.reasons():
            print(f"{name}: {reason}", file=sys.stderr)
    print(*table(["", "times", "longest, s", *HEAD], rows), sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
