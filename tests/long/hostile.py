"""Good and hostile requests against a live process: ``make hostile``.

None may get a 500, none may hang, and every good one must be right, whatever the others do. Prints
a table of what came of each kind, and the process' memory before and after.
"""

import argparse
import os
import re
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx

import models
from service.admission.api_keys import line_of, new_token
from tests.long.arsenal import Arsenal
from tests.long.attacks import attack
from tests.long.good_requests import Asker, Sample, image_files, references
from tests.long.process_usage import Usage, usage
from tests.long.raw_socket import HUNG, Outcome, exchange
from tests.service.app_client import wait_for
from tests.service.process import Process, process
from training.markdown import table

BOUND = 90.0
"""Seconds without a byte after which a request counts as hung."""

LIMITS = {"REQUEST_TIMEOUT": 60, "HEADER_TIMEOUT": 4, "UPLOAD_GRACE": 2}
"""Short, so that slow senders are cut off while others are watching."""


@dataclass
class Result:
    """What came of all requests; filled from many threads, one call at a time."""

    outcomes: dict[str, Counter[Outcome]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    faults: list[str] = field(default_factory=list)
    waits: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, outcome: Outcome, seconds: float, fault: str = "") -> None:
        """Count one request."""
        with self.lock:
            self.outcomes[kind][outcome] += 1
            self.seconds[kind].append(seconds)
            if fault:
                self.faults.append(f"{kind}: {fault}")

    def table(self) -> str:
        """Kinds and their outcomes."""
        columns = sorted({o for counts in self.outcomes.values() for o in counts}, key=str)
        rows = [
            [
                kind,
                sum(counts.values()),
                *(counts[c] or "" for c in columns),
                f"{max(self.seconds[kind]):.2f}",
            ]
            for kind, counts in sorted(self.outcomes.items())
        ]
        return "\n".join(table(["kind", "requests", *map(str, columns), "longest, s"], rows))


@contextmanager
def guarded_server(bundle: Path, *, keys: bool, **settings: object) -> Iterator[tuple[Process, str]]:
    """A server that is ready, and the key it wants; empty without ``keys``."""
    with tempfile.TemporaryDirectory() as name:
        folder, key = Path(name), ""
        if keys:
            key = new_token()
            file = folder / "keys"
            file.write_text(line_of("hostile-test", key) + "\n")
            file.chmod(0o600)
            settings["API_KEYS_FILE"] = file
        with process(folder, bundle, **(LIMITS | settings)) as server:
            server.wait_ready()
            yield server, key


def bombard(
    server: Process, key: str, samples: list[Sample], *, requests: int, clients: int, seed: int
) -> Result:
    """Send ``requests``, every third one hostile, from ``clients`` threads."""
    result = Result()
    arsenal = Arsenal([sample.data for sample in samples], key)
    indices = iter(range(requests))
    lock = threading.Lock()

    def client() -> None:
        asker = Asker(server.url, samples, key, timeout=BOUND)
        while True:
            with lock:
                index = next(indices, None)
            if index is None:
                break
            rng = Random(f"{seed}:{index}")
            if index % 3 == 2:
                _attack(result, server, arsenal, rng, index)
            else:
                asked = asker.ask(rng)
                result.add(
                    f"good: {asked.kind}",
                    asked.status,
                    asked.seconds,
                    asked.wrong and f"{index}: {asked.wrong}",
                )
                with result.lock:
                    result.waits += asked.waits
        asker.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return result


def _attack(result: Result, server: Process, arsenal: Arsenal, rng: Random, index: int) -> None:
    made = attack(rng, arsenal)
    start = time.monotonic()
    try:
        outcomes = exchange(("127.0.0.1", server.port), made.sending, BOUND)
    except OSError as error:
        outcomes = [f"no connection ({type(error).__name__})"]
    seconds = time.monotonic() - start
    unfit = [o for o in outcomes if o not in made.fit or o == HUNG]
    result.add(made.kind, outcomes[-1], seconds, f"{index}: {outcomes}" if unfit else "")


def afterwards(server: Process, key: str) -> list[str]:
    """What is wrong with the server when all is over; it has some time to let go of what it holds."""
    if server.process.poll() is not None:
        return [f"the process ended with {server.process.returncode}"]
    faults: list[str] = []

    def figures() -> str:
        return httpx.get(server.url + "/metrics", headers={"X-API-Key": key}, timeout=BOUND).text

    def idle() -> bool:
        return re.search(r"^dermaserve_requests_in_progress 0(\.0)?$", figures(), re.MULTILINE) is not None

    try:
        wait_for(idle, BOUND)
    except AssertionError:
        faults.append("requests are still in progress")
    faults += re.findall(r'^dermaserve_requests_total\{[^}]*status="500"[^}]*\} \S+', figures(), re.MULTILINE)
    faults += [
        f"{path} gives {server.status(path)}" for path in ("/livez", "/readyz") if server.status(path) != 200
    ]
    if "Traceback" in server.output():
        faults.append("a stack trace in the log: " + server.output().partition("Traceback")[2][:6000])
    return faults


def run(
    bundle: Path, *, requests: int, clients: int, seed: int, keys: bool, files: list[tuple[str, bytes]]
) -> tuple[Result, Usage, Usage]:
    """Start a server, bombard it, look at it; returns also its usage before and after."""
    with guarded_server(bundle, keys=keys) as (server, key):
        with httpx.Client(base_url=server.url, headers={"X-API-Key": key}) as client:
            samples = references(client, files)
        before = usage(server.process.pid)
        result = bombard(server, key, samples, requests=requests, clients=clients, seed=seed)
        result.faults += afterwards(server, key)
        return result, before, usage(server.process.pid)


def main() -> int:
    """Run the command line; the exit status is 1 when anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.long.hostile", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keys", action="store_true", help="with API keys")
    parser.add_argument("--bundle", type=Path, default=Path(models.__file__).parent / "ham10000-ensemble")
    options = parser.parse_args()
    real = os.environ.get("DERMASERVE_HAM10000")
    files = image_files(options.seed, Path(real) if real else None)
    start = time.monotonic()
    result, before, after = run(
        options.bundle,
        requests=options.requests,
        clients=options.clients,
        seed=options.seed,
        keys=options.keys,
        files=files,
    )
    seconds = time.monotonic() - start
    print(result.table())
    print(f"\n{options.requests:,} requests in {seconds:.0f} s, {len(files)} images, keys: {options.keys}")
    print(f"good requests told to come again, and answered then: {result.waits}")
    for name, look in (("before", before), ("after", after)):
        memory = f"{look.rss / 1e6:.0f} MB, peak {look.peak / 1e6:.0f} MB"
        print(f"{name}: {memory}, {look.files} files, {look.threads} threads")
    print(f"faults: {len(result.faults)}")
    for fault in result.faults[:50]:
        print("  " + fault, file=sys.stderr)
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
