"""Decodes image files in separate processes with limited processor time and memory.

A thread cannot be stopped: one file of 1.5 MB took 35 s, another took 3.1 GB. The kernel kills a process
that exceeds its limits. Only its image gets an error, and a new process is forked. See
``service.decoding.worker``.

The first attempt gives each image ``SMALL`` bytes beside its file and ``QUICK`` seconds. This is enough for
nearly all images; a photo of 12 megapixels is decoded at a reduced scale. An image that takes longer is
decoded again with the full time limit. Such images never use all processes. An image that needs more memory
is decoded again with the memory of the largest accepted image, one such image at a time. Both wait on the
event loop, where they delay no other image. So this module need not read or trust the headers of files.
``service.system.fair_queue`` decides the order of those that wait.

File and pixels pass through a socket pair between the event loop and the process. A thread between them
would wake up twice per image. Per image, this costs 0.25 ms of processor time more than decoding in a thread.
The library pebble also kills slow work, but it costs 0.7 ms per image where this costs 0.5, it does not limit
memory, and it unpickles what a process sends, so that a hijacked codec could reach the API keys.
"""

import asyncio
import json
import signal
import time
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

from models import errors
from models.errors import CorruptImage, ImageError, ImageTooCostly
from models.preprocess import BYTES_PER_PIXEL, Decoded
from models.quality import Quality
from models.scaling import Color
from service.decoding.fork_server import Answer, ForkServer, Order, Process
from service.errors import DeadlinePassed
from service.observability.metrics import Metrics
from service.system.fair_queue import FairSemaphore, Rank
from service.system.threads import in_thread

SMALL = 64_000_000
"""Bytes that each image may use in its first attempt, beside its file."""

QUICK = 0.08
"""Processor seconds of the first attempt. An image of 600 x 450 pixels takes 0.005.

So long a client may wait for another whose slow images are in all processes (``tests.long.fairness``).
"""

_CLOSE_SECONDS = 5

T = TypeVar("T")


class ImageDecoder:
    """A pool of decoding processes, forked when they are needed. Runs on the event loop only."""

    def __init__(
        self, *, processes: int, max_pixels: int, timeout: float, metrics: Metrics, stuck_after: float
    ) -> None:
        """Initialise the pool without starting a process.

        Args:
            processes: largest number of processes.
            max_pixels: largest accepted product of an image's width and height.
            timeout: processor seconds that one image may take.
            metrics: records the decoding times and the processes that end.
            stuck_after: seconds of one task after which ``alive`` is false.
        """
        self._max_pixels = max_pixels
        self._timeout = timeout
        self._metrics = metrics
        self._stuck_after = stuck_after
        self._free = FairSemaphore(processes)
        self._slow = FairSemaphore(max(1, processes - 1))
        self._large = FairSemaphore(1)
        self._idle: list[Process] = []
        self._fork_server: ForkServer | None = None
        self._since: dict[object, float] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def alive(self) -> bool:
        """Whether no task has taken more than ``stuck_after`` seconds."""
        now = time.monotonic()
        return now - min(self._since.values(), default=now) <= self._stuck_after

    def start(self) -> None:
        """Start the fork server, which loads the codecs. Does not wait for it."""
        if self._fork_server is None:
            self._fork_server = ForkServer()

    async def ready(self) -> None:
        """Wait until a process is ready to decode.

        Raises:
            MemoryError: no process could be started.
        """
        if not self._idle:
            await asyncio.shield(self._begin(self._add()))

    async def decode(
        self, data: bytes, *, height: int, width: int, color: Color, rank: Rank, deadline: float
    ) -> tuple[Decoded, Quality]:
        """Decode one image file and measure its quality. Cancellation kills the process.

        Args:
            data: the whole file.
            height, width, color: see ``models.preprocess.decode``.
            rank: rank of the request.
            deadline: on the clock of ``time.monotonic``; decoding does not begin after it.

        Raises:
            ImageError: the image cannot be used, or exceeds the limits of time or memory.
            MemoryError: the machine is short of memory.
            DeadlinePassed: the deadline passed before decoding began.
        """
        wanted = {"height": height, "width": width, "color": color, "max_pixels": self._max_pixels}
        pixel_bytes = height * width * (3 if color == "rgb" else 1)
        order = Order(json.dumps(wanted).encode(), data, pixel_bytes, min(QUICK, self._timeout), SMALL)
        try:
            answer = await self._attempt(order, rank, deadline)
        except ImageTooCostly:
            if order.seconds == self._timeout:
                raise
            order = order._replace(seconds=self._timeout)
            answer = await self._attempt(order, rank, deadline, self._slow)
        # Some codecs, such as WebP's, report damage when they lack memory.
        if "short_of_memory" in answer.found or answer.found.get("refused") == CorruptImage.__name__:
            left = max(0.01, self._timeout - float(answer.found["spent"]))
            order = order._replace(seconds=left, memory=SMALL + BYTES_PER_PIXEL * self._max_pixels)
            answer = await self._attempt(order, rank, deadline, self._large, self._slow)
        return _result(answer, wanted)

    async def close(self) -> None:
        """End all processes and the fork server."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
        for process in self._idle:
            process.close()
        self._idle.clear()
        if self._fork_server is not None:
            fork_server, self._fork_server = self._fork_server, None
            await asyncio.wrap_future(in_thread(fork_server.close))

    async def _attempt(self, order: Order, rank: Rank, deadline: float, *first: FairSemaphore) -> Answer:
        """Run ``order`` in a process, after acquiring the semaphores ``first``."""
        with ExitStack() as turns:
            for turn in (*first, self._free):
                await turn.acquire(rank)
                turns.callback(turn.release)
            if time.monotonic() >= deadline:
                raise DeadlinePassed("The deadline passed before the image was decoded.")
            with self._watched(), self._metrics.decoding.time():
                process = await self._take()
                try:
                    answer = await process.decode(order)
                except BaseException as error:
                    # The process is dead, or its image was cancelled. The semaphores are released only when
                    # it has ended, because they limit the memory.
                    overtime = "slow" if not first and order.seconds < self._timeout else "timeout"
                    cancelled = isinstance(error, asyncio.CancelledError)
                    ending = self._begin(
                        self._end(process, turns.pop_all(), overtime=overtime, cancelled=cancelled)
                    )
                    if isinstance(error, EOFError | ConnectionError):
                        raise self._death(await asyncio.shield(ending)) from None
                    raise
                self._idle.append(process)
                return answer

    async def _take(self) -> Process:
        while True:
            while self._idle:
                process = self._idle.pop()
                if process.lives():
                    return process
                self._begin(self._end(process, ExitStack()))
            await asyncio.shield(self._begin(self._add()))

    async def _add(self) -> None:
        """Fork a process. If the fork server has died, start a new one first.

        Raises:
            MemoryError: the system cannot start a process, or kills each fork server as it starts.
            RuntimeError: the fork server fails by itself.
        """
        status = 0
        try:
            for _ in range(3):  # the server may have died earlier, and the next may be killed as it starts
                if self._fork_server is None:
                    self._fork_server = ForkServer()
                fork_server = self._fork_server
                with suppress(EOFError, ConnectionError):
                    self._idle.append(await fork_server.fork())
                    return
                if self._fork_server is fork_server:
                    self._fork_server = None
                status = await asyncio.wrap_future(in_thread(fork_server.close))
        except OSError as error:  # no descriptors, or no process numbers
            raise MemoryError("no process could be started") from error
        if status < 0:  # a signal, which the kernel sends when memory is short
            raise MemoryError("each process that was started was killed")
        raise RuntimeError("the process that decodes images cannot be started")

    async def _end(
        self, process: Process, turns: ExitStack, *, overtime: str = "timeout", cancelled: bool = False
    ) -> int:
        """Kill a process, then release its ``turns``. Return its exit status, negative for a signal.

        Args:
            process: the process.
            turns: releases the semaphores that it holds.
            overtime: the reason to count if it exceeded its time limit.
            cancelled: whether its image was cancelled.
        """
        with turns:
            try:
                status = await process.end()
            except (EOFError, OSError):  # the fork server has died, and the process with it
                status = -signal.SIGKILL
        reasons = {-signal.SIGPROF: overtime, -signal.SIGKILL: "killed"}
        self._metrics.decoder_ended("cancelled" if cancelled else reasons.get(status, "crashed"))
        return status

    def _death(self, status: int) -> Exception:
        """Return the exception for an image whose process ended with ``status``."""
        if status == -signal.SIGPROF:
            return ImageTooCostly(
                f"Decoding the image takes more than {self._timeout:g} s of processor time."
            )
        if status == -signal.SIGKILL:  # the kernel does this when memory is short
            return MemoryError("a process that decoded an image was killed")
        return CorruptImage("The image is damaged: its decoder crashed.")

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work`` to its end even if the caller is cancelled."""

        async def watched() -> T:
            with self._watched():
                return await work

        task = asyncio.create_task(watched())
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # mark as retrieved: asyncio would log it if the caller was cancelled

    @contextmanager
    def _watched(self) -> Iterator[None]:
        key = object()
        self._since[key] = time.monotonic()
        try:
            yield
        finally:
            del self._since[key]


def _result(answer: Answer, wanted: dict[str, Any]) -> tuple[Decoded, Quality]:
    """Return the content of ``answer``, or raise the exception that it names."""
    found, pixels = answer
    if "short_of_memory" in found:
        raise ImageTooCostly("Decoding the image takes more memory than an image may.")
    if "refused" in found:
        kind = getattr(errors, found["refused"])
        if not issubclass(kind, ImageError):
            raise ValueError(f"unknown refusal of a decoding process: {found['refused']}")
        raise kind(found["detail"])
    if "failed" in found:
        raise RuntimeError(f"an image could not be decoded: {found['failed']}")
    shaped = pixels.reshape(wanted["height"], wanted["width"], -1)
    return Decoded(pixels=shaped, **found["image"]), Quality(**found["quality"])
