"""One process beside several behind the proxy: ``make bench-replicas``. It needs an idle machine and HAProxy.

The cases take turns in each round. Prints the images per second and the memory of each case, and what the
parts of an image take in one process: from these follows how many cores one process can use.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import models
from bench.images import prepare_images
from bench.load import Load, Measured, run
from bench.processes import cpu_seconds, usage
from service.system.cpus import usable_cpus
from tests.deploy.haproxy import Proxy, Replicas, make_certificate
from training.markdown import table

_BUNDLE = Path(models.__file__).parent / "ham10000-ensemble"


class Case(NamedTuple):
    """One way to use the machine: the cores of each process, and whether the proxy is before them."""

    title: str
    cores: Sequence[set[int]]
    proxied: bool


class Found(NamedTuple):
    """What one load measured.

    Attributes:
        loop: seconds of the event loop's thread for an image, of a case with one process.
        rest: seconds of all other threads and processes of the service for an image.
        memory: bytes of each replica (PSS, with its decoding processes).
        proxy: seconds of the proxy for an image; 0 without one.
    """

    measured: Measured
    loop: float
    rest: float
    memory: float
    proxy: float


def cases() -> list[Case]:
    """Those that show whether processes add up, and what the proxy takes."""
    cores = sorted(os.sched_getaffinity(0))
    return [
        Case("one process on one core", [{cores[0]}], proxied=False),
        Case("one process", [set(cores)], proxied=False),
        Case("one process behind the proxy", [set(cores)], proxied=True),
        Case("a process for each core behind the proxy", [{core} for core in cores], proxied=True),
    ]


@contextmanager
def started(case: Case, folder: Path, bundle: Path) -> Iterator[tuple[list[int], dict[str, Any], int]]:
    """Start a case; yields the services' process ids, where to send, and the proxy's id or 0."""
    with ExitStack() as stack:
        replicas = stack.enter_context(Replicas(folder, bundle, DECODE_WORKERS=2, LOG_LEVEL="warning"))
        addresses = replicas.start(len(case.cores))
        services = [replicas.running[address].process.pid for address in addresses]
        for pid, cores in zip(services, case.cores, strict=True):
            os.sched_setaffinity(pid, cores)  # before it counts them: importing takes longer
        for address in addresses:
            replicas.running[address].wait_ready()
        if not case.proxied:
            yield services, {"port": replicas.port, "host": addresses[0]}, 0
            return
        tls = make_certificate(folder)
        proxy = stack.enter_context(Proxy(folder, tls, replicas.names, replicas.port))
        proxy.wait_ready(*addresses)
        yield services, {"port": proxy.port, "authority": str(tls / "ca.pem")}, proxy.process.pid


def loop_seconds(pid: int) -> float:
    """Processor time of the main thread of a process, which runs the event loop."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def total(seconds: Callable[[int], float], processes: Sequence[int]) -> float:
    """Sum over processes."""
    return sum(map(seconds, processes))


def measure(case: Case, bundle: Path, images: Path, *, clients: int, seconds: float) -> Found:
    """Start a case, send it one load, and end it.

    Raises:
        RuntimeError: an answer was wrong.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        started(case, Path(folder), bundle) as (services, where, proxy),
    ):
        load = Load(images=str(images), clients=clients, seconds=seconds, warm_up=0, **where)
        run(load)  # the first images are slower
        loop, every = total(loop_seconds, services), total(cpu_seconds, services)
        spent = cpu_seconds(proxy) if proxy else 0.0
        answered = run(load)
        loop, every = total(loop_seconds, services) - loop, total(cpu_seconds, services) - every
        spent = cpu_seconds(proxy) - spent if proxy else 0.0
        memory = statistics.mean(usage(pid).pss for pid in services)
    if answered.failed:
        raise RuntimeError(f"{case.title}: {answered.reasons}")
    # The first and the last answer of each client are not counted, but took processor time.
    number = answered.requests + 2 * clients
    return Found(answered, loop / number, (every - loop) / number, memory, spent / number)


def bound(loop: float, rest: float, cores: int) -> float:
    """Images per second that one process cannot exceed: its event loop is one thread."""
    return min(1 / loop, cores / (loop + rest))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.replicas", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--bundle", type=Path, default=_BUNDLE)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="keeps the images")
    options = parser.parse_args()
    images = prepare_images(options.out.absolute() / "images")["600x450"]
    found: dict[str, list[Found]] = defaultdict(list)
    for _ in range(options.rounds):
        for case in cases():
            one = measure(case, options.bundle, images, clients=options.clients, seconds=options.seconds)
            found[case.title].append(one)
    rows = [[title, *_figures(each), *_ratio(each, found["one process"])] for title, each in found.items()]
    head = ["", "images/s", "p50, ms", "p95, ms", "MB a replica", "proxy, ms an image", "over one process"]
    print(*table(head, rows), sep="\n")
    alone = found["one process"]
    loop, rest = (statistics.median(getattr(one, part) for one in alone) for part in ("loop", "rest"))
    print(f"An image takes {loop * 1e3:.2f} ms of the event loop and {rest * 1e3:.2f} ms of other threads.")
    numbers = sorted({usable_cpus(), 2, 4, 8, 16, 32, 64})
    bounds = [[n, f"{bound(loop, rest, n):.0f}"] for n in numbers]
    print(*table(["cores", "at most, images/s of one process"], bounds), sep="\n")
    return 0


def _figures(each: Sequence[Found]) -> list[str]:
    speeds = [one.measured.throughput for one in each]
    return [
        f"{statistics.median(speeds):.1f} ({min(speeds):.1f}–{max(speeds):.1f})",
        f"{statistics.median(one.measured.p50 for one in each) * 1000:.0f}",
        f"{statistics.median(one.measured.p95 for one in each) * 1000:.0f}",
        f"{statistics.median(one.memory for one in each) / 1e6:.0f}",
        f"{statistics.median(one.proxy for one in each) * 1000:.2f}",
    ]


def _ratio(each: Sequence[Found], others: Sequence[Found]) -> list[str]:
    """Each ratio is of two values of the same round."""
    ratios = [a.measured.throughput / b.measured.throughput for a, b in zip(each, others, strict=True)]
    return [f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"]


if __name__ == "__main__":
    sys.exit(main())
