"""``kill -9`` under load, with a supervisor that starts the server again: part of ``make rolling``.

What is being worked on is lost, and its clients are told by a closed connection, at once. Nobody gets
a wrong answer, and the next process serves. Prints how long that takes.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

import models
from tests.long.crowd import HEAD, Crowd
from tests.long.good_requests import samples_of
from tests.service.app_client import wait_for
from tests.service.process import Process, free_port
from training.markdown import table


class Supervisor:
    """Starts the server again whenever it ends, as systemd, Docker and Kubernetes do."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self._folder, self._bundle, self._port = folder, bundle, free_port()
        self._stop = threading.Event()
        self.server = self._start()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self) -> None:
        """Stop watching, and the server too."""
        self._stop.set()
        self._thread.join()
        self.server.end()

    def _start(self) -> Process:
        return Process(self._folder, self._bundle, port=self._port)

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            if self.server.process.poll() is not None:
                self.server.end()
                self.server = self._start()


def crashes(bundle: Path, folder: Path, *, times: int, clients: int) -> tuple[Crowd, list[float]]:
    """Kill the server under load; returns what clients saw, and seconds until each was replaced."""
    supervisor = Supervisor(folder, bundle)

    def kill() -> float:
        begun, old = time.monotonic(), supervisor.server
        old.process.kill()
        wait_for(lambda: supervisor.server is not old)
        supervisor.server.wait_ready()
        return time.monotonic() - begun

    took = []
    try:
        supervisor.server.wait_ready()
        url = supervisor.server.url
        with Crowd(url, samples_of(url), clients=clients) as crowd:
            for _ in range(times):
                time.sleep(2)
                took.append(kill())
            time.sleep(2)
    finally:
        supervisor.end()
    return crowd, took


def main() -> int:
    """Run the command line; the exit status is 1 when a client got a wrong answer."""
    parser = argparse.ArgumentParser(prog="python -m tests.long.crash", description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--bundle", type=Path, default=Path(models.__file__).parent / "ham10000-ensemble")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        crowd, took = crashes(options.bundle, Path(folder), times=options.times, clients=options.clients)
    print(
        *table(
            ["", "times", "longest, s", *HEAD], [["kill -9", len(took), f"{max(took):.1f}", *crowd.row()]]
        ),
        sep="\n",
    )
    for reason in crowd.reasons():
        print(f"kill -9: {reason}")
    wrong = [asked for asked in crowd.failed if asked.status]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
