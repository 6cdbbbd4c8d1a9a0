"""The load generator: clients that send images to a server, in a process of its own.

    python -m bench.load SPEC

SPEC is a ``Load`` as JSON; prints a ``Measured`` as JSON. There are two kinds of load:

- closed loop (``clients``): each client sends its next request when it has its answer. This finds the
  highest throughput. It hides how long others would queue, because the clients slow down with the server.
- open loop (``rate``): requests are due at given times whatever the server does, evenly spaced or as a
  Poisson process. Latency counts from when a request was due, not from when it was sent. A server that
  stalls is thus charged for every request that was due meanwhile.

Threads with ``http.client`` rather than httpx: the clients share their cores with the server, and httpx
takes 1.6 ms of processor time for a request of 236 kB, 4 % of what the server takes; these take 0.14 ms.
"""

import http.client
import json
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import accumulate, count, cycle, takewhile
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

import numpy as np

from bench.images import read_images
from bench.processes import cpu_seconds
from models.labels import HAM10000_LABELS

_TIMEOUT = 60.0  # seconds for one answer
_PAUSE = 0.05  # seconds after a failed request
_OPEN_THREADS = 512  # most requests of an open loop at one time
_BOUNDARY = "5c1f9e"
_CODES = {label.code for label in HAM10000_LABELS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send to a server.

    Attributes:
        port: of the server.
        host: its address, on this machine.
        authority: file of the certificate authority; with it the server is asked by HTTPS.
        images: folder of JPEG files, sent in turn.
        path: of the URL, with its query.
        form: whether an image is the body itself or the multipart part ``file``.
        seconds: duration of the measurement.
        warm_up: seconds before it.
        clients: of a closed loop; 0 for an open one.
        requests: if given, a closed loop lasts for this many answers instead of ``seconds``.
        rate: requests per second of an open loop.
        arrivals: how the requests of an open loop are spaced.
        leader: process id of the server, to measure its processor time; 0 for none.
        seed: of Poisson arrivals.
    """

    port: int
    host: str = "127.0.0.1"
    authority: str = ""
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
    """The result of a load.

    Attributes:
        requests: number of answers in the measurement, right or wrong.
        failed: number of answers that are not 200 with a probability for each class.
        throughput: right answers per second.
        p50, p95, p99: seconds of latency; each is the latency of a request, not a value between two.
        server_cpu, load_cpu: seconds of processor time per request, of the server and of this process.
        reasons: the most frequent reasons of failed answers, with their numbers.
    """

    requests: int
    failed: int
    throughput: float
    p50: float
    p95: float
    p99: float
    server_cpu: float
    load_cpu: float
    reasons: dict[str, int] = field(default_factory=dict)


class _Sent(NamedTuple):
    """One request: when it was due and answered, by ``time.perf_counter``, and what was wrong."""

    due: float
    done: float
    wrong: str


class _Window:
    """The time that counts, and the processor time used in it."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._server, self._own = self._server_cpu(), time.process_time()
        self.start = time.perf_counter()

    def close(self, sent: list[_Sent], *, clients: int = 0) -> Measured:
        """Sum up the requests ``sent`` of so many ``clients``, or of an open loop."""
        own, server = time.process_time() - self._own, self._server_cpu() - self._server
        latencies = np.array([one.done - one.due for one in sent])
        failed = sum(bool(one.wrong) for one in sent)
        if clients:
            # Little's law. Counting the answers of a window would be off by those at its two ends.
            rate = clients / float(latencies.mean())
        else:
            rate = len(sent) / (max(one.done for one in sent) - self.start)
        p50, p95, p99 = np.quantile(latencies, (0.5, 0.95, 0.99), method="inverted_cdf").tolist()
        return Measured(
            requests=len(sent),
            failed=failed,
            throughput=rate * (1 - failed / len(sent)),
            p50=p50,
            p95=p95,
            p99=p99,
            server_cpu=server / len(sent),
            load_cpu=own / len(sent),
            reasons=dict(Counter(one.wrong for one in sent if one.wrong).most_common(5)),
        )

    def _server_cpu(self) -> float:
        return cpu_seconds(self._leader) if self._leader else 0.0


class _Sender:
    """Sends the images in turn."""

    def __init__(self, load: Load) -> None:
        bodies = read_images(Path(load.images))
        self._type = "image/jpeg"
        if load.form == "multipart":
            bodies = [multipart(image) for image in bodies]
            self._type = f"multipart/form-data; boundary={_BOUNDARY}"
        self._bodies, self._lock = cycle(bodies), threading.Lock()
        self._path, self._host, self._port = load.path, load.host, load.port
        self._tls = ssl.create_default_context(cafile=load.authority) if load.authority else None
        self._idle: list[http.client.HTTPConnection] = []

    def send(self, due: float) -> _Sent:
        """Send the next image over an idle connection, or a new one, and read the answer."""
        with self._lock:
            body = next(self._bodies)
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._connection()
        try:
            connection.request("POST", self._path, body, {"Content-Type": self._type})
            answer = connection.getresponse()
            content = answer.read()
            done, wrong = time.perf_counter(), fault(answer.status, content)
        except (OSError, http.client.HTTPException) as error:
            connection.close()  # the next request opens it again
            done, wrong = time.perf_counter(), f"{type(error).__name__}: {error}"
        self._idle.append(connection)
        return _Sent(due, done, wrong)

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT)
        return http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT, context=self._tls)

    def close(self) -> None:
        """Close all connections."""
        for connection in self._idle:
            connection.close()


def fault(status: int, body: bytes) -> str:
    """What is wrong with an answer; empty if it has a probability for each class."""
    if status != 200:
        return f"status {status}: {body[:200].decode(errors='replace')}"
    try:
        probabilities = json.loads(body)["probabilities"]
        right = probabilities.keys() == _CODES and abs(sum(probabilities.values()) - 1) < 1e-2
    except (ValueError, KeyError, TypeError, AttributeError):
        right = False
    shown = body[:200].decode(errors="replace")
    return "" if right else f"no probabilities of the {len(_CODES)} classes: {shown}"


def run(load: Load) -> Measured:
    """Send the load and measure.

    Raises:
        ValueError: ``load`` gives both or neither of ``clients`` and ``rate``, or no request is due.
        FileNotFoundError: the folder holds no image.
    """
    if bool(load.clients) == bool(load.rate):
        raise ValueError(f"expected either clients or rate, got {load.clients} and {load.rate}")
    with closing(_Sender(load)) as sender:
        return _closed(load, sender.send) if load.clients else _open(load, sender.send)


def _closed(load: Load, send: Callable[[float], _Sent]) -> Measured:
    """A slow server gets more time: warm-up and measurement hold an answer for each client or more."""
    sent: list[_Sent] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            sent.append(send(time.perf_counter()))
            if sent[-1].wrong:
                time.sleep(_PAUSE)

    def wait(number: int, seconds: float) -> None:
        time.sleep(seconds)
        while len(sent) < number:
            time.sleep(0.005)
            for one in clients:
                if one.done():
                    one.result()  # raises what ended it

    with ThreadPoolExecutor(load.clients) as pool:
        clients = [pool.submit(client) for _ in range(load.clients)]
        try:
            wait(load.clients, load.warm_up)
            window, seen = _Window(load.leader), len(sent)
            wait(seen + (load.requests or load.clients + 1), 0 if load.requests else load.seconds)
            return window.close(sent[seen:], clients=load.clients)
        finally:
            stop.set()


def _open(load: Load, send: Callable[[float], _Sent]) -> Measured:
    counted: list[Future[_Sent]] = []
    window: _Window | None = None
    with ThreadPoolExecutor(_OPEN_THREADS) as pool:
        begin = time.perf_counter()
        for due in due_times(load):
            if due >= load.warm_up and window is None:
                window = _Window(load.leader)
            time.sleep(max(0.0, begin + due - time.perf_counter()))
            future = pool.submit(send, begin + due)
            if window is not None:
                counted.append(future)
        sent = [future.result() for future in counted]
    if window is None:
        raise ValueError(f"no request came due in {load.seconds} s at {load.rate}/s: measure longer")
    return window.close(sent)


def due_times(load: Load) -> Iterator[float]:
    """When the requests of an open loop are due, in seconds from its start, warm-up included."""
    if load.arrivals == "even":
        times: Iterator[float] = (index / load.rate for index in count())
    else:
        random = Random(load.seed)
        times = accumulate(random.expovariate(load.rate) for _ in count())
    return takewhile(lambda due: due < load.warm_up + load.seconds, times)


def multipart(image: bytes) -> bytes:
    """A form with one part named ``file``."""
    head = 'Content-Disposition: form-data; name="file"; filename="lesion.jpg"\r\nContent-Type: image/jpeg'
    return f"--{_BOUNDARY}\r\n{head}\r\n\r\n".encode() + image + f"\r\n--{_BOUNDARY}--\r\n".encode()


def main() -> None:
    """Run the command line."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    print(json.dumps(asdict(run(Load(**spec)))))


if __name__ == "__main__":
    main()
