"""One hostile and one good client: what 64 connections at 100 KB/s do to someone else's requests.

``python -m tests.long.fairness`` prints, for each attack, the good client's median and 99th percentile alone
and attacked, in alternation, and their ratios. An attack is unfair where a request of the good client
failed, a prediction came without the overlay that it asked for, or a ratio is above ``LIMIT``. The program
fails if one is. The machine should do nothing else meanwhile.
"""

import argparse
import asyncio
import http.client
import json
import multiprocessing
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import models
from tests.long.greedy import ATTACKS, FORM, OVERLAYS, Attack, form, noise
from tests.long.report import quantile
from tests.service.process import process
from training.markdown import table

CONNECTIONS = 64
RATE = 100_000
"""Bytes per second of the hostile client, in all."""

LIMIT = 5.0
"""How many times as long as usual the good client may wait, in the median and at the 99th percentile."""

_HANDSHAKE = 100  # bytes that a new connection costs
_UNREAD = 20  # seconds for which a client that does not read keeps its connection


def attack(port: int, made: Attack, address: str, told: Connection) -> None:
    """In a process of its own: send until it is killed, and tell the answers on the way."""
    asyncio.run(_attack(port, made, address, told))


async def _attack(port: int, made: Attack, address: str, told: Connection) -> None:
    statuses: Counter[str] = Counter()
    budget, then = float(RATE), time.monotonic()
    turn = asyncio.Lock()

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
                reader, writer = await _connect(port, address, made.buffer)
                try:
                    while True:
                        async with turn:  # all at one time would be too slow for a large body
                            if reader.at_eof() or writer.is_closing():  # closed while it waited
                                break
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
                            await _read(reader, made.read)
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


async def _connect(port: int, address: str, buffer: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    client = socket.socket()
    client.setblocking(False)
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        # As on Ethernet. Else the system of the server takes most of an answer before it is read.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    client.bind((address, 0))
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=client, limit=buffer or 65_536)


async def _read(reader: asyncio.StreamReader, rate: int | None) -> None:
    """Read until the server closes the connection, or for ``_UNREAD`` seconds not at all."""
    if rate is None:
        await reader.read()
    elif rate == 0:
        await asyncio.sleep(_UNREAD)
    else:
        while not reader.at_eof():
            await reader.read(rate // 10)
            await asyncio.sleep(0.1)


@contextmanager
def attacked(port: int, made: Attack, address: str) -> Iterator[list[Counter[str]]]:
    """The block runs under attack; the list holds the answers so far when it is over."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    hostile = multiprocessing.Process(target=attack, args=(port, made, address, theirs), daemon=True)
    hostile.start()
    last: list[Counter[str]] = []
    try:
        time.sleep(made.lead)
        yield last
    finally:
        hostile.kill()
        hostile.join()
        while ours.poll():
            with suppress(EOFError):
                last[:] = [ours.recv()]


class Good:
    """Asks one thing after another, with a photograph or a batch of four, on one connection.

    Attributes:
        failed: statuses that were not 200.
        omitted: number of predictions without the overlay that was asked for.
    """

    def __init__(self, port: int, photo: bytes, address: str, pause: float) -> None:
        self._port, self._photo, self._address, self._pause = port, photo, address, pause
        self._connection = self._new()
        self.failed: Counter[object] = Counter()
        self.omitted = 0

    def _new(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, 60, (self._address, 0))

    def ask(self, path: str, seconds: float) -> list[float]:
        """How long each request took."""
        found = []
        overlays = path == OVERLAYS
        body, kind = (form(self._photo, 4), FORM) if overlays else (self._photo, "image/jpeg")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            begin = time.monotonic()
            try:
                self._connection.request("POST", path, body, {"content-type": kind})
                response = self._connection.getresponse()
                answer = response.read()
                if response.status != 200:
                    self.failed[response.status] += 1
                elif overlays:
                    self.omitted += sum(not result["gradcam"] for result in json.loads(answer)["results"])
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
        usual = good.ask(made.beside, seconds)
        with attacked(port, made, address) as last:
            now = good.ask(made.beside, seconds)
        answers.update(*last)
        alone += usual
        under += now
        ratios.append(quantile(now, 0.99) / quantile(usual, 0.99))
        time.sleep(1)
    figures = [quantile(alone, 0.5), quantile(alone, 0.99), quantile(under, 0.5), quantile(under, 0.99)]
    failed, good.failed = good.failed, Counter()
    omitted, good.omitted = good.omitted, 0
    return [
        *(f"{figure * 1000:.0f}" for figure in figures),
        f"{figures[2] / figures[0]:.1f}",
        f"{statistics.median(ratios):.1f}",
        len(under),
        dict(failed) or "",
        omitted or "",
        " ".join(f"{name}:{count}" for name, count in answers.items()),
    ]


HEAD = ["attack", "p50 ms", "p99 ms", "attacked p50", "p99", "ratio p50", "p99", "good"]
HEAD += ["failed", "no overlay", "hostile"]


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
    parser.add_argument("--photo", default="600x450", help="size of what the good client sends")
    parser.add_argument("--decode-workers", type=int, default=2)
    options = parser.parse_args()
    width, height = map(int, options.photo.split("x"))
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        process(
            Path(folder), options.bundle, LOG_LEVEL="warning", DECODE_WORKERS=options.decode_workers
        ) as server,
    ):
        server.wait_ready()
        good = Good(server.port, noise(width, height, 75), "127.0.0.1", options.pause)
        good.ask("/predict", 2)
        for name in options.attacks.split(";") if options.attacks else ATTACKS:
            made = ATTACKS[name]()
            row = measure(server.port, good, made, options.address, options.rounds, options.seconds)
            rows.append([name, *row])
            print(rows[-1], flush=True)
    print(*table(HEAD, rows), sep="\n")
    unfair = [
        row[0] for row in rows if row[8] or row[9] or max(float(str(row[5])), float(str(row[6]))) > LIMIT
    ]
    print(f"unfair: {', '.join(map(str, unfair)) or 'none'}")
    return 1 if unfair else 0


if __name__ == "__main__":
    sys.exit(main())
