"""The load: clients that ask a server, in a process of its own.

    python -m bench.load SPEC

SPEC is a ``Load`` as JSON; prints a ``Measured`` as JSON. Two kinds, for neither alone tells all:

- closed loop (``clients``): so many clients, each asks again as soon as it has its answer. It finds the
  most that a server does, but slows down with the server, and so hides how long others would queue.
- open loop (``rate``): requests come at their times whatever the server does, evenly spaced or as a Poisson
  process. A latency counts from when its request was due, not from when it was sent: else a server that
  stalls would be charged for one late answer, and not for all that came due meanwhile.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import accumulate, count, cycle, takewhile
from pathlib import Path
from random import Random
from typing import Literal

from bench.connection import Connection, post
from bench.images import read_images
from bench.spread import quantile, steady_rate
from bench.vitals import cpu_seconds
from models.labels import HAM10000_LABELS

_BOUND = 60.0  # seconds for one answer
_PAUSE = 0.05  # seconds of a client whose request failed, before it tries again
_BOUNDARY = "5c1f9e"
_CODES = {label.code for label in HAM10000_LABELS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of a server.

    Attributes:
        port: on this machine.
        images: folder of JPEG files, asked for in turn.
        path: of the URL, with its query.
        form: whether an image is the body itself or a part named ``file``.
        seconds: how long it is measured.
        warm_up: seconds before that.
        clients: of a closed loop; 0 for an open one.
        requests: if given, a closed loop is measured for so many answers instead of ``seconds``.
        rate: requests per second of an open loop.
        arrivals: how those are spaced.
        leader: process id of the server, whose processor time is measured; 0 for none.
        seed: of Poisson arrivals.
    """

    port: int
    images: str
    path: str = "/predict"
    form: Literal["raw", "multipart"] = "raw"
    seconds: float
    warm_up: float
    clients: int = 0
    requests: int = 0
    rate: float = 0.0
    arrivals: Literal["even", "poisson"] = "even"
    leader: int = 0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of it.

    Attributes:
        requests: answers that count, right and wrong.
        failed: those that are not 200 with a probability for each class, with their reasons in ``reasons``.
        throughput: right answers per second.
        p50, p95: seconds of latency.
        server_cpu, load_cpu: seconds of processor time per request, of the server and of this process.
    """

    requests: int
    failed: int
    throughput: float
    p50: float
    p95: float
    server_cpu: float
    load_cpu: float
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Asked:
    """One request: when it was due and done, on the clock of ``time.perf_counter``, and what was wrong."""

    due: float
    done: float
    wrong: str


class _Window:
    """From when on requests count, and what was taken of the processor since."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self.open()

    def open(self) -> None:
        self._server, self._own = self._server_cpu(), time.process_time()
        self.start = time.perf_counter()

    def close(self, asked: list[_Asked], *, clients: int = 0) -> Measured:
        """Sum up; without ``clients``, an open loop, until the last answer."""
        own, server = time.process_time() - self._own, self._server_cpu() - self._server
        latencies = [one.done - one.due for one in asked]
        failed = sum(bool(one.wrong) for one in asked)
        if clients:
            rate = steady_rate(latencies, at_a_time=clients)
        else:
            rate = len(asked) / (max(one.done for one in asked) - self.start)
        return Measured(
            requests=len(asked),
            failed=failed,
            throughput=rate * (1 - failed / len(asked)),
            p50=quantile(latencies, 0.5),
            p95=quantile(latencies, 0.95),
            server_cpu=server / len(asked),
            load_cpu=own / len(asked),
            reasons=dict(Counter(one.wrong for one in asked if one.wrong).most_common(5)),
        )

    def _server_cpu(self) -> float:
        return cpu_seconds(self._leader) if self._leader else 0.0


class _Clients:
    """The requests, in turn, and connections to send them over."""

    def __init__(self, load: Load) -> None:
        self._requests = cycle(list(_requests(load)))
        self._port = load.port
        self._idle: list[Connection] = []

    async def ask(self, due: float) -> _Asked:
        """The next request over a free connection, a new one if there is none."""
        connection = self._idle.pop() if self._idle else Connection("127.0.0.1", self._port)
        try:
            answer = await asyncio.wait_for(connection.ask(next(self._requests)), _BOUND)
            wrong = fault(answer.status, answer.body)
        except (OSError, EOFError, ValueError) as error:  # TimeoutError is an OSError
            wrong = f"{type(error).__name__}: {error}"
        self._idle.append(connection)
        return _Asked(due, time.perf_counter(), wrong)

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


def fault(status: int, body: bytes) -> str:
    """What is wrong with an answer; nothing with 200 and JSON that has a probability for each class."""
    if status != 200:
        return f"status {status}: {body[:200].decode(errors='replace')}"
    try:
        found = json.loads(body)["probabilities"]
        right = found.keys() == _CODES and abs(sum(found.values()) - 1) < 1e-2
    except (ValueError, KeyError, TypeError, AttributeError):
        right = False
    return (
        ""
        if right
        else f"no probabilities of the {len(_CODES)} classes: {body[:200].decode(errors='replace')}"
    )


async def run(load: Load) -> Measured:
    """Load the server and measure.

    Raises:
        ValueError: neither ``clients`` nor ``rate`` is given, or both, or no request came due.
    """
    if bool(load.clients) == bool(load.rate):
        raise ValueError(f"expected either clients or rate, got {load.clients} and {load.rate}")
    clients = _Clients(load)
    try:
        return await (_closed(load, clients) if load.clients else _open(load, clients))
    finally:
        clients.close()


async def _closed(load: Load, clients: _Clients) -> Measured:
    """A slow server gets more time: at least one answer for each client, before and in the window."""
    asked: list[_Asked] = []
    more = asyncio.Event()
    stop = False

    async def client() -> None:
        while not stop:
            asked.append(await clients.ask(time.perf_counter()))
            more.set()
            if asked[-1].wrong:
                await asyncio.sleep(_PAUSE)

    async def until(count: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        while len(asked) < count:
            more.clear()
            await more.wait()

    tasks = [asyncio.create_task(client()) for _ in range(load.clients)]
    await until(load.clients, load.warm_up)
    window, seen = _Window(load.leader), len(asked)
    await until(seen + (load.requests or load.clients + 1), 0 if load.requests else load.seconds)
    measured = window.close(asked[seen:], clients=load.clients)
    stop = True
    await asyncio.gather(*tasks)
    return measured


async def _open(load: Load, clients: _Clients) -> Measured:
    tasks: list[asyncio.Task[_Asked]] = []
    window = _Window(load.leader)
    begin = window.start
    counted = 0
    for due in due_times(load):
        if due >= load.warm_up and not counted:
            window.open()  # which takes a moment, so before this one is due
            counted = len(tasks) + 1
        await asyncio.sleep(begin + due - time.perf_counter())
        tasks.append(asyncio.create_task(clients.ask(begin + due)))
    asked = await asyncio.gather(*tasks)
    if not counted:
        raise ValueError(f"no request came due in {load.seconds} s at {load.rate}/s: measure longer")
    return window.close(list(asked[counted - 1 :]))


def due_times(load: Load) -> Iterator[float]:
    """When the requests of an open loop are due, in seconds since its start, warm-up included."""
    end = load.warm_up + load.seconds
    if load.arrivals == "even":
        yield from takewhile(lambda due: due < end, (index / load.rate for index in count()))
    else:
        gaps = iter(partial(Random(load.seed).expovariate, load.rate), None)
        yield from takewhile(lambda due: due < end, accumulate(gaps))


def _requests(load: Load) -> Iterator[bytes]:
    for image in read_images(Path(load.images)):
        if load.form == "raw":
            yield post(load.path, image, "image/jpeg")
        else:
            yield post(load.path, multipart(image), f"multipart/form-data; boundary={_BOUNDARY}")


def multipart(image: bytes) -> bytes:
    """A form with one part named ``file``."""
    head = 'Content-Disposition: form-data; name="file"; filename="lesion.jpg"\r\nContent-Type: image/jpeg'
    return f"--{_BOUNDARY}\r\n{head}\r\n\r\n".encode() + image + f"\r\n--{_BOUNDARY}--\r\n".encode()


def main() -> None:
    """Run the command line."""
    print(json.dumps(asdict(asyncio.run(run(Load(**json.loads(sys.argv[1])))))))


if __name__ == "__main__":
    main()
