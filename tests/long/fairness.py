"""One hostile and one good client: what 64 connections at 100 KB/s do to someone else's requests.

``python -m tests.long.fairness`` prints, for each attack, the good client's median and 99th percentile alone
and attacked, in alternation, and their ratios. It fails where a request failed or a ratio is above ``LIMIT``.
The machine should do nothing else meanwhile.
"""

import argparse
import asyncio
import http.client
import io
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from PIL import Image

import models
from tests.long.report import quantile
from tests.service import costly_images
from tests.service.process import process
from training.markdown import table

CONNECTIONS = 64
RATE = 100_000
"""Bytes per second of the hostile client, in all."""

LIMIT = 5.0
"""How many times as long as usual the good client may wait, in the median and at the 99th percentile."""

_HANDSHAKE = 100  # bytes that a new connection costs
_UNREAD = 60  # seconds for which a client that does not read keeps its connection


class Attack(NamedTuple):
    """What each connection sends.

    Attributes:
        request: a whole request, or the beginning of one.
        answered: whether to wait for the answer, and then to go on.
        kept: whether the next request comes on the same connection.
        more: what follows the request again and again, until the server closes the connection.
        read: whether to read at all.
    """

    request: bytes
    answered: bool = True
    kept: bool = True
    more: bytes = b""
    read: bool = True


def post(path: str, body: bytes, media_type: str) -> bytes:
    """A request with an image."""
    headers = f"Host: x\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return f"POST {path} HTTP/1.1\r\n{headers}".encode() + body


def begun(header: str) -> bytes:
    """The beginning of a request with an image, up to its body."""
    return f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n{header}\r\n\r\n".encode()


def get(path: str) -> bytes:
    """A request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def batch(image: bytes, count: int = 32, query: str = "") -> bytes:
    """A request with ``count`` times the same image."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    body = b"".join(head + image + b"\r\n" for _ in range(count)) + b"--x--\r\n"
    return post(f"/predict/batch{query}", body, "multipart/form-data; boundary=x")


def image(width: int, height: int, format_: str, mode: str = "RGB") -> bytes:
    """A file of one colour."""
    buffer = io.BytesIO()
    Image.new(mode, (width, height), 128 if len(mode) == 1 else (200, 150, 130)).save(buffer, format_)
    return buffer.getvalue()


def flat_webp() -> bytes:
    """64 megapixels in 34 bytes, which take 1 GB and a second to decode."""
    buffer = io.BytesIO()
    Image.new("RGB", (7900, 7900)).save(buffer, "WEBP", lossless=True, method=0)
    return buffer.getvalue()


ATTACKS: dict[str, Callable[[], Attack]] = {
    "idle": lambda: Attack(b"", answered=False),
    "half requests": lambda: Attack(post("/predict", b"x" * 1000, "image/png")[:-900], answered=False),
    "announced sizes": lambda: Attack(begun("Content-Length: 20000000"), answered=False, more=b"\xff" * 1000),
    "drips of headers": lambda: Attack(b"POST /predict HTTP/1.1\r\n", answered=False, more=b"A: b\r\n"),
    "drips of chunks": lambda: Attack(
        begun("Transfer-Encoding: chunked"), answered=False, more=b"1\r\n\xff\r\n"
    ),
    "pings": lambda: Attack(get("/livez")),
    "pings, new": lambda: Attack(get("/livez"), kept=False),
    "scrapes": lambda: Attack(get("/metrics")),
    "tiny": lambda: Attack(post("/predict", image(8, 8, "PNG"), "image/png")),
    "tiny, new": lambda: Attack(post("/predict", image(8, 8, "PNG"), "image/png"), kept=False),
    "tiny, gone": lambda: Attack(
        post("/predict", image(8, 8, "PNG"), "image/png"), answered=False, kept=False
    ),
    "overlays": lambda: Attack(post("/gradcam", image(8, 8, "PNG"), "image/png")),
    "damaged": lambda: Attack(post("/predict", image(8, 8, "PNG")[:56], "image/png")),
    "batches": lambda: Attack(batch(image(8, 8, "PNG"))),
    "batches with overlays": lambda: Attack(batch(image(8, 8, "PNG"), query="?gradcam=true")),
    "overlays, unread": lambda: Attack(
        batch(image(8, 8, "PNG"), query="?gradcam=true"), answered=False, read=False
    ),
    "large": lambda: Attack(post("/predict", image(3000, 3000, "PNG", "L"), "image/png")),
    "flat WebP": lambda: Attack(post("/predict", flat_webp(), "image/webp")),
    "scans": lambda: Attack(post("/predict", costly_images.scans(600, 600, 400), "image/jpeg")),
    "many scans": lambda: Attack(post("/predict", costly_images.scans(2000, 2000, 1000), "image/jpeg")),
    "batches of scans": lambda: Attack(batch(costly_images.scans(600, 600, 100))),
}


def attack(port: int, made: Attack, address: str, told: Connection) -> None:
    """In a process of its own: send until it is killed, and tell the answers on the way."""
    asyncio.run(_attack(port, made, address, told))


async def _attack(port: int, made: Attack, address: str, told: Connection) -> None:
    statuses: Counter[str] = Counter()
    budget, then = float(RATE), time.monotonic()

    async def spend(size: int) -> None:
        nonlocal budget, then
        while True:
            now = time.monotonic()
            budget, then = min(RATE, budget + (now - then) * RATE), now
            if budget >= size:
                budget -= size
                return
            await asyncio.sleep((size - budget) / RATE)

    async def connection() -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError, ValueError):
                await spend(_HANDSHAKE)
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
                try:
                    while True:
                        for at in range(0, len(made.request), 1400):
                            piece = made.request[at : at + 1400]
                            await spend(len(piece))
                            writer.write(piece)
                        statuses["sent"] += 1
                        while made.more and not reader.at_eof():
                            await spend(len(made.more))
                            writer.write(made.more)
                            await writer.drain()
                        if not made.answered and made.kept:
                            await (reader.read() if made.read else asyncio.sleep(_UNREAD))
                            statuses["closed"] += 1
                            break
                        if not made.answered:
                            break
                        head = await reader.readuntil(b"\r\n\r\n")
                        statuses[head.split()[1].decode()] += 1
                        if size := head.lower().partition(b"content-length:")[2]:
                            await reader.readexactly(int(size.split()[0]))
                        else:
                            while not (data := await reader.read(65_536)).endswith(b"0\r\n\r\n"):
                                if not data:
                                    break
                        if not made.kept:
                            break
                finally:
                    writer.close()

    async def tell() -> None:
        while True:
            await asyncio.sleep(0.5)
            told.send(statuses)

    await asyncio.gather(tell(), *(connection() for _ in range(CONNECTIONS)))


@contextmanager
def attacked(port: int, made: Attack, address: str) -> Iterator[list[Counter[str]]]:
    """The block runs under attack; the list holds the answers so far when it is over."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    hostile = multiprocessing.Process(target=attack, args=(port, made, address, theirs), daemon=True)
    hostile.start()
    last: list[Counter[str]] = []
    try:
        time.sleep(1.5)
        yield last
    finally:
        hostile.kill()
        hostile.join()
        while ours.poll():
            with suppress(EOFError):
                last[:] = [ours.recv()]


class Good:
    """Asks one thing after another, with a photograph, on one connection.

    Attributes:
        failed: statuses that were not 200.
    """

    def __init__(self, port: int, photo: bytes, address: str, pause: float) -> None:
        self._port, self._photo, self._address, self._pause = port, photo, address, pause
        self._connection = self._new()
        self.failed: Counter[object] = Counter()

    def _new(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, 60, (self._address, 0))

    def ask(self, seconds: float) -> list[float]:
        """How long each request took."""
        found = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            begin = time.monotonic()
            try:
                self._connection.request("POST", "/predict", self._photo, {"content-type": "image/jpeg"})
                response = self._connection.getresponse()
                response.read()
                if response.status != 200:
                    self.failed[response.status] += 1
            except (OSError, http.client.HTTPException) as error:
                self.failed[type(error).__name__] += 1
                self._connection.close()
                self._connection = self._new()
            found.append(time.monotonic() - begin)
            time.sleep(self._pause)
        return found


def measure(port: int, good: Good, made: Attack, address: str, rounds: int, seconds: float) -> list[object]:
    """A row of the table."""
    alone: list[float] = []
    under: list[float] = []
    answers: Counter[str] = Counter()
    ratios = []
    for _ in range(rounds):
        usual = good.ask(seconds)
        with attacked(port, made, address) as last:
            now = good.ask(seconds)
        answers.update(*last)
        alone += usual
        under += now
        ratios.append(quantile(now, 0.99) / quantile(usual, 0.99))
        time.sleep(1)
    figures = [quantile(alone, 0.5), quantile(alone, 0.99), quantile(under, 0.5), quantile(under, 0.99)]
    failed, good.failed = good.failed, Counter()
    return [
        *(f"{figure * 1000:.0f}" for figure in figures),
        f"{figures[2] / figures[0]:.1f}",
        f"{statistics.median(ratios):.1f}",
        len(under),
        dict(failed) or "",
        " ".join(f"{name}:{count}" for name, count in answers.items()),
    ]


HEAD = ["attack", "p50 ms", "p99 ms", "attacked p50", "p99", "ratio p50", "p99", "good", "failed", "hostile"]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.long.fairness", description=__doc__)
    parser.add_argument("--attacks", default="", help="separated by semicolons; default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--pause", type=float, default=0.005, help="of the good client between requests")
    parser.add_argument(
        "--address", default="127.0.0.2", help="of the hostile client; the good one's is 127.0.0.1"
    )
    parser.add_argument("--bundle", type=Path, default=Path(models.__file__).parent / "ham10000-ensemble")
    parser.add_argument("--decode-workers", type=int, default=2)
    options = parser.parse_args()
    buffer = io.BytesIO()
    Image.effect_noise((600, 450), 60).convert("RGB").save(buffer, "JPEG", quality=75)
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        process(
            Path(folder), options.bundle, LOG_LEVEL="warning", DECODE_WORKERS=options.decode_workers
        ) as server,
    ):
        server.wait_ready()
        good = Good(server.port, buffer.getvalue(), "127.0.0.1", options.pause)
        good.ask(2)
        for name in options.attacks.split(";") if options.attacks else ATTACKS:
            made = ATTACKS[name]()
            row = measure(server.port, good, made, options.address, options.rounds, options.seconds)
            rows.append([name, *row])
            print(rows[-1], flush=True)
    print(*table(HEAD, rows), sep="\n")
    unfair = [row[0] for row in rows if row[8] or max(float(str(row[5])), float(str(row[6]))) > LIMIT]
    print(f"unfair: {', '.join(map(str, unfair)) or 'none'}")
    return 1 if unfair else 0


if __name__ == "__main__":
    sys.exit(main())
