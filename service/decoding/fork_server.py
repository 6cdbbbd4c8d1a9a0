"""The service's side of the processes that decode: begun, asked, ended."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.decoding.worker import LONGEST, NUMBER, ORDER, READY, REPLY

_NO_PROCESS = -1
_CLOSE_SECONDS = 5
_BUFFER = 1024 * 1024  # bytes; the system may allow fewer. A typical file goes in one piece.


class Order(NamedTuple):
    """One image to decode, and what that may take.

    Attributes:
        wanted: JSON of the arguments of ``models.preprocess.decode``.
        data: the whole file.
        pixel_bytes: what the pixels will have.
        seconds: of processor time.
        memory: bytes, beside the file.
    """

    wanted: bytes
    data: bytes
    pixel_bytes: int
    seconds: float
    memory: int


class Answer(NamedTuple):
    """What came of it: JSON, see ``service.decoding.worker``, and the pixels, flat, if there are any."""

    found: dict[str, Any]
    pixels: NDArray[np.uint8]


class Process:
    """A process that decodes one image at a time."""

    def __init__(self, fork_server: "ForkServer", number: int, connection: socket.socket) -> None:
        self._fork_server = fork_server
        self._number = number
        self._connection = connection

    def lives(self) -> bool:
        """Whether its end of the socket is open."""
        try:
            return bool(self._connection.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except ConnectionError:
            return False

    async def decode(self, order: Order) -> Answer:
        """Have an image decoded. Whatever this raises, the process cannot be used any more.

        Raises:
            EOFError, ConnectionError: it died.
            ValueError: it answers nonsense.
        """
        loop = asyncio.get_running_loop()
        head = ORDER.pack(len(order.wanted), len(order.data), order.seconds, order.memory) + order.wanted
        # Nothing of an earlier image is in the socket: there is room for the head.
        sent = self._connection.sendmsg([head, order.data]) - len(head)
        if sent < len(order.data):
            await loop.sock_sendall(self._connection, memoryview(order.data)[sent:])
        answer = np.empty(REPLY.size + LONGEST + order.pixel_bytes, np.uint8)
        filled, needed = 0, REPLY.size
        json_bytes = pixel_bytes = 0
        while filled < needed:
            count = await loop.sock_recv_into(self._connection, answer[filled:].data)
            if not count:
                raise EOFError
            filled += count
            if not json_bytes and filled >= REPLY.size:
                json_bytes, pixel_bytes = REPLY.unpack(answer[: REPLY.size].tobytes())
                needed = REPLY.size + json_bytes + pixel_bytes
                if json_bytes > LONGEST or pixel_bytes not in (0, order.pixel_bytes):
                    raise ValueError("a process that decodes images answers nonsense")
        pixels_at = REPLY.size + json_bytes
        return Answer(json.loads(answer[REPLY.size : pixels_at].tobytes()), answer[pixels_at:needed])

    async def end(self) -> int:
        """Kill it, unless it has ended; its exit status, negative for a signal.

        Raises:
            EOFError, ConnectionError: the process that forked it has died, and it with that.
        """
        self.close()
        return await self._fork_server.end(self._number)

    def close(self) -> None:
        """Let it end, if it decodes nothing."""
        self._connection.close()


class ForkServer:
    """The process that has loaded the codecs, and forks those that decode. Begun by the constructor."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        self._turn = asyncio.Lock()
        self._ready = False
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        # Nothing of the service's environment, which may hold secrets, but for how programs are found.
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "service.decoding.worker", str(theirs.fileno())],
                env=kept | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )

    async def fork(self) -> Process:
        """A new process.

        Raises:
            MemoryError: the system gives none more.
            EOFError, ConnectionError: this one has died.
        """
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            with theirs:
                number = await self._call(0, [theirs.fileno()])
            if number == _NO_PROCESS:
                raise MemoryError("no process could be started")
        except BaseException:
            ours.close()
            raise
        return Process(self, number, ours)

    async def end(self, number: int) -> int:
        """Kill the process, unless it has ended; its exit status, negative for a signal."""
        return await self._call(number, [])

    def close(self) -> None:
        """End it, and with it all that it has forked."""
        self._control.close()
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    async def _call(self, number: int, descriptors: list[int]) -> int:
        async with self._turn:
            if self._control.fileno() < 0:  # closed by another caller, who found that it has died
                raise EOFError
            if not self._ready and await self._receive() == READY:
                self._ready = True
            socket.send_fds(self._control, [NUMBER.pack(number)], descriptors)
            return await self._receive()

    async def _receive(self) -> int:
        data = await asyncio.get_running_loop().sock_recv(self._control, NUMBER.size)
        if len(data) < NUMBER.size:
            raise EOFError
        number: int = NUMBER.unpack(data)[0]
        return number
