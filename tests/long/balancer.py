"""A load balancer as clinics have one: it sends connections to servers whose /readyz says 200."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

_CHECK_EVERY = 0.1  # seconds


class Balancer:
    """Forwards bytes on a port of its own, on an event loop in a thread; use as a context manager.

    Attributes:
        port: where it listens.
        ready: ports of the servers that were ready when last asked.
        unserved: connections for which there was no server.
    """

    def __init__(self, backends: Sequence[int]) -> None:
        self.ready: set[int] = set()
        self.unserved = 0
        self._turns = itertools.cycle(backends)
        self._backends = backends
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        """Listen, and ask each server once."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Drop everything."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        await self._check()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        self._checking = asyncio.create_task(self._check_forever())

    async def _stop(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _check_forever(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_EVERY)
            await self._check()

    async def _check(self) -> None:
        answers = await asyncio.gather(*(_is_ready(port) for port in self._backends))
        self.ready = {port for port, ready in zip(self._backends, answers, strict=True) if ready}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in self._backends:
            port = next(port for port in self._turns if port in self.ready or not self.ready)
            with contextlib.suppress(OSError):
                upstream, down = await asyncio.open_connection("127.0.0.1", port)
                break
        else:
            self.unserved += 1
            writer.close()
            return
        with contextlib.suppress(asyncio.CancelledError):  # the end: asyncio would print it as an error
            await asyncio.gather(_forward(reader, down), _forward(upstream, writer))


async def _is_ready(port: int) -> bool:
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            status = await reader.readline()
            writer.close()
            return b" 200 " in status
    except (OSError, TimeoutError):
        return False


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes from one to the other until the first ends."""
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # either side is gone: so is the connection
    finally:
        writer.close()
