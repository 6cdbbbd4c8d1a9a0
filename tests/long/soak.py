"""Half an hour at 80 % of the capacity: ``make soak``.

First the capacity is measured with clients that ask as fast as they are answered. Then requests come
at a fixed rate whatever the server does (an open loop), most of them good, a few hostile, and the
latency of each counts from the moment it was due. Memory, open files and threads are looked at every
ten seconds. Prints a table and writes all figures as JSON.
"""

import argparse
import os
import queue
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import httpx

import models
from tests.long.arsenal import Arsenal
from tests.long.attacks import attack
from tests.long.crowd import Crowd
from tests.long.good_requests import Asked, Asker, Sample, image_files, references
from tests.long.hostile import afterwards, guarded_server
from tests.long.process_usage import Usage, usage
from tests.long.raw_socket import HUNG, exchange
from tests.long.report import quantile, save
from tests.service.process import Process
from training.markdown import table

HOSTILE = 0.02
"""Share of hostile requests."""

_LOOK_EVERY = 10.0  # seconds
_CLIENTS = 64  # threads that wait for answers: enough for 80 % of any capacity of this machine
_BOUND = 90.0


class OpenLoop:
    """Requests at a fixed rate, answered to a pool of threads.

    Attributes:
        good: what came of the good ones; ``seconds`` count from when the request was due.
        hostile: number of hostile ones; ``faults``: what they did that they must not.
    """

    def __init__(self, server: Process, samples: Sequence[Sample], seed: int) -> None:
        self.good: list[Asked] = []
        self.hostile = 0
        self.faults: list[str] = []
        self._server, self._samples, self._seed = server, samples, seed
        self._arsenal = Arsenal([sample.data for sample in samples])
        self._due: queue.SimpleQueue[tuple[int, float] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._client) for _ in range(_CLIENTS)]

    def run(self, rate: float, seconds: float) -> list[tuple[float, Usage]]:
        """Send ``rate`` requests per second; returns seconds since the start and the server's usage."""
        for thread in self._threads:
            thread.start()
        pid, start = self._server.process.pid, time.monotonic()
        looks = [(0.0, usage(pid))]
        for index in range(int(rate * seconds)):
            due = start + index / rate
            time.sleep(max(0.0, due - time.monotonic()))
            self._due.put((index, due))
            if due - start >= looks[-1][0] + _LOOK_EVERY:
                looks.append((due - start, usage(pid)))
        for _ in self._threads:
            self._due.put(None)
        for thread in self._threads:
            thread.join()
        return [*looks, (time.monotonic() - start, usage(pid))]

    def _client(self) -> None:
        asker = Asker(self._server.url, self._samples, timeout=_BOUND)
        while (task := self._due.get()) is not None:
            index, due = task
            rng = Random(f"{self._seed}:{index}")
            if rng.random() < HOSTILE:
                self._attack(rng, index)
            else:
                asked = asker.ask(rng)
                late = Asked(asked.kind, asked.status, asked.wrong, time.monotonic() - due, asked.waits)
                self.good.append(late)
        asker.close()

    def _attack(self, rng: Random, index: int) -> None:
        made = attack(rng, self._arsenal)
        self.hostile += 1
        try:
            outcomes = exchange(("127.0.0.1", self._server.port), made.sending, _BOUND)
        except OSError as error:
            outcomes = [type(error).__name__]
        if HUNG in outcomes or not made.fit.issuperset(outcomes):
            self.faults.append(f"{made.kind} ({index}): {outcomes}")


def capacity(url: str, samples: Sequence[Sample], seconds: float) -> float:
    """Good requests per second that eight clients get answered."""
    with Crowd(url, samples, clients=8) as crowd:
        time.sleep(seconds / 4)  # warm
        before, start = len(crowd.asked), time.monotonic()
        time.sleep(seconds)
        done, took = len(crowd.asked) - before, time.monotonic() - start
    if crowd.failed:
        raise RuntimeError(f"the capacity cannot be measured: {crowd.reasons()}")
    return done / took


def _at(looks: Sequence[tuple[float, Usage]], seconds: float) -> Usage:
    """The look nearest to ``seconds`` after the start."""
    return min(looks, key=lambda look: abs(look[0] - seconds))[1]


def main() -> int:
    """Run the command line; the exit status is 1 when a good request failed or something leaks."""
    parser = argparse.ArgumentParser(prog="python -m tests.long.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--load", type=float, default=0.8, help="share of the capacity")
    parser.add_argument("--measure", type=float, default=20, help="seconds of measuring the capacity")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bundle", type=Path, default=Path(models.__file__).parent / "ham10000-ensemble")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/soak"), help="folder for soak.json and soak.md"
    )
    options = parser.parse_args()
    real = os.environ.get("DERMASERVE_HAM10000")
    with guarded_server(options.bundle, keys=False) as (server, key):
        with httpx.Client(base_url=server.url) as client:
            samples = references(client, image_files(options.seed, Path(real) if real else None))
        most = capacity(server.url, samples, options.measure)
        rate = options.load * most
        print(f"capacity {most:.1f} requests/s; {options.seconds:.0f} s at {rate:.1f}/s", flush=True)
        loop = OpenLoop(server, samples, options.seed)
        looks = loop.run(rate, options.seconds)
        faults = loop.faults + afterwards(server, key)
    begin, end = looks[0][1], looks[-1][1]
    # Threads that answer come and go with the load; what only grows is a leak.
    faults += [
        f"{name} grew from {before} to {after}"
        for name, before, after in (
            ("files", begin.files, end.files),
            ("threads", begin.threads, end.threads),
        )
        if after > before + 8
    ]
    seconds = [asked.seconds for asked in loop.good]
    failed = [asked for asked in loop.good if asked.wrong]
    took = looks[-1][0]
    minutes = [m for m in (1, 10, 30) if m * 60 <= options.seconds]
    rows: list[tuple[str, str]] = [
        ("capacity, requests/s", f"{most:.1f}"),
        ("offered, requests/s", f"{rate:.1f}"),
        ("answered, requests/s", f"{len(loop.good) / took:.1f}"),
        ("good requests", f"{len(loop.good):,}"),
        ("  failed or wrong", str(len(failed))),
        ("  told to come again", str(sum(asked.waits for asked in loop.good))),
        ("hostile requests", f"{loop.hostile:,}"),
        ("p50, ms", f"{quantile(seconds, 0.5) * 1000:.0f}"),
        ("p99, ms", f"{quantile(seconds, 0.99) * 1000:.0f}"),
        ("processor, cores", f"{(end.cpu - begin.cpu) / took:.2f}"),
        ("RSS at the start, MB", f"{begin.rss / 1e6:.0f}"),
        *((f"RSS at {m} min, MB", f"{_at(looks, 60 * m).rss / 1e6:.0f}") for m in minutes),
        ("RSS at the end, MB", f"{end.rss / 1e6:.0f}"),
        ("RSS at most, MB", f"{end.peak / 1e6:.0f}"),
        ("files, start and end", f"{begin.files}, {end.files}"),
        ("threads, start and end", f"{begin.threads}, {end.threads}"),
        ("other faults", str(len(faults))),
    ]
    text = "\n".join(table([f"{options.seconds:.0f} s at {options.load:.0%}", ""], rows))
    print(text)
    for fault in [asked.wrong for asked in failed][:20] + faults[:20]:
        print("  " + fault, file=sys.stderr)
    figures = {"figures": dict(rows), "looks": [{"seconds": at} | look._asdict() for at, look in looks]}
    save(options.out / "soak.json", figures)
    (options.out / "soak.md").write_text(text + "\n")
    return 1 if failed or faults else 0


if __name__ == "__main__":
    sys.exit(main())
