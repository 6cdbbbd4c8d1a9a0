"""Starts, uses and ends the processes that decode images, from the side of the service."""

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
_BUFFER = 1024 * 1024  # bytes; the system may limit it. A typical file fits into one message.


class Order(NamedTuple):
    """One image to decode, with its limits.

    Attributes:
        wanted: the arguments of ``models.preprocess.decode``, as JSON.
        data: the whole file.
        pixel_bytes: size of the decoded pixels.
        seconds: limit of processor time.
        memory: limit of memory in bytes, in addition to the file.
    """

    wanted: bytes
    data: bytes
    pixel_bytes: int
    seconds: float
    memory: int


class Answer(NamedTuple):
    """The reply to an order: JSON (see ``service.decoding.worker``), and the flat pixels if there are any."""

    found: dict[str, Any]
    pixels: NDArray[np.uint8]


class Process:
    """A process that decodes one image at a time."""

    def __init__(self, fork_server: "ForkServer", number: int, connection: socket.socket) -> None:
        self._fork_server = fork_server
        self._number = number
        self._connection = connection

    def lives(self) -> bool:
        """Whether the process still has its end of the socket open."""
        try:
            return bool(self._connection.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except ConnectionError:
            return False

    async def decode(self, order: Order) -> Answer:
        """Decode an image in the process. After any exception, the process must not be used again.

        Raises:
            EOFError, ConnectionError: the process died.
            ValueError: the process sent an invalid answer.
        """
        loop = asyncio.get_running_loop()
        head = ORDER.pack(len(order.wanted), len(order.data), order.seconds, order.memory) + order.wanted
        # The head always fits into the buffer, because the earlier order was read completely.
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
                    raise ValueError("a decoding process sent an invalid answer")
        pixels_at = REPLY.size + json_bytes
        return Answer(json.loads(answer[REPLY.size : pixels_at].tobytes()), answer[pixels_at:needed])

    async def end(self) -> int:
        """Kill the process, unless it has ended, and return its exit status; negative for a signal.

        Raises:
            EOFError, ConnectionError: the fork server has died, which ended this process too.
        """
        self.close()
        return await self._fork_server.end(self._number)

    def close(self) -> None:
        """Close the socket. The process then ends when it is idle."""
        self._connection.close()


class ForkServer:
    """The process that has loaded the codecs and forks the decoding processes. The constructor starts it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        self._turn = asyncio.Lock()
        self._ready = False
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        # The service's environment may hold secrets. Pass on only what Python needs to start.
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
        """Fork a decoding process.

        Raises:
            MemoryError: the system cannot start another process.
            EOFError, ConnectionError: the fork server has died.
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
        """Kill a process, unless it has ended, and return its exit status; negative for a signal."""
        return await self._call(number, [])

    def close(self) -> int:
        """End the fork server and all processes that it has forked.

        Returns:
            Its exit status; negative for a signal.
        """
        self._control.close()
        try:
            return self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    async def _call(self, number: int, descriptors: list[int]) -> int:
        async with self._turn:
            if self._control.fileno() < 0:  # another caller found it dead and closed it
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
