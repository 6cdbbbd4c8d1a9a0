"""Image files to pixels, in processes that an image can neither fill, nor hold, nor leave.

A thread cannot be stopped: a file of 1.5 MB kept one busy for 35 s, another took 3.1 GB. A process is
killed by the kernel where an image takes more time or memory than it may, and forked anew; only that
image gets an error. See ``service.decoding.worker``.

Each image is first given ``SMALL`` bytes beside its file and ``QUICK`` seconds, enough for nearly all (a
photo of 12 megapixels is decoded at a reduced scale). One that takes longer is decoded again, with all the
time that an image may take; such images leave one process to the others. One that needs more memory is
decoded again, one such at a time, with the memory that the largest image takes. Both wait for their turn
on the event loop, where they hold up no ordinary image. So no header has to be trusted, nor to be read here.
Those who wait take turns by client, see ``service.system.fair_queue``.

The file and the pixels go through a socket pair, straight from and to the event loop: a thread between
would be woken twice for each image. It costs an image 0.25 ms of processor time more than a thread. The
library pebble kills what takes too long, too. It costs the service 0.7 ms an image, where this costs 0.5,
it bounds no memory, and it unpickles what a process sends: a codec that is taken over would reach the keys.
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
from models.preprocess import BYTES_PER_PIXEL, Color, Decoded
from models.quality import Quality
from service.decoding.fork_server import Answer, ForkServer, Order, Process
from service.errors import DeadlinePassed
from service.observability.metrics import Metrics
from service.system.fair_queue import FairSemaphore, Rank
from service.system.threads import in_thread

SMALL = 64_000_000
"""Bytes that every image may take while it is decoded, beside its file."""

QUICK = 0.1
"""Seconds of processor time after which an image is a slow one. A picture of 600 x 450 takes 0.005."""

_CLOSE_SECONDS = 5

T = TypeVar("T")


class ImageDecoder:
    """A fixed number of processes at most, forked as they are needed.

    Runs on the event loop only: no locks but for those who wait.
    """

    def __init__(
        self, *, processes: int, max_pixels: int, timeout: float, metrics: Metrics, stuck_after: float
    ) -> None:
        """Start nothing yet.

        Args:
            processes: images decoded at one time.
            max_pixels: largest ``width x height`` of an image.
            timeout: seconds of processor time that an image may take.
            metrics: told of every image, and of every process that ends.
            stuck_after: seconds of one image after which this is not ``alive``.
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
        """Whether images are decoded, or can be."""
        now = time.monotonic()
        return now - min(self._since.values(), default=now) <= self._stuck_after

    def start(self) -> None:
        """Begin to load the codecs, in a process; returns at once."""
        if self._fork_server is None:
            self._fork_server = ForkServer()

    async def ready(self) -> None:
        """Wait until images can be decoded.

        Raises:
            MemoryError: there is none for a process.
        """
        if not self._idle:
            await asyncio.shield(self._begin(self._add()))

    async def decode(
        self, data: bytes, *, height: int, width: int, color: Color, rank: Rank, deadline: float
    ) -> tuple[Decoded, Quality]:
        """Decode one image file, and measure its quality. If the caller is cancelled, the process is killed.

        Args:
            data: the whole file.
            height, width, color: see ``models.preprocess.decode``.
            rank: of its request, among those who wait.
            deadline: on the clock of ``time.monotonic``; decoding does not begin after it.

        Raises:
            ImageError: it cannot be used, or takes more time or memory than an image may.
            MemoryError: there is none for it now.
            DeadlinePassed: it could not begin in time.
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
        # Some codecs call a file damaged where they lack memory, WebP's for one.
        if "short_of_memory" in answer.found or answer.found.get("refused") == CorruptImage.__name__:
            left = max(0.01, self._timeout - float(answer.found["spent"]))
            order = order._replace(seconds=left, memory=SMALL + BYTES_PER_PIXEL * self._max_pixels)
            answer = await self._attempt(order, rank, deadline, self._large, self._slow)
        return _result(answer, wanted)

    async def close(self) -> None:
        """End all processes."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
        for process in self._idle:
            process.close()
        self._idle.clear()
        if self._fork_server is not None:
            fork_server, self._fork_server = self._fork_server, None
            await asyncio.wrap_future(in_thread(fork_server.close))

    async def _attempt(self, order: Order, rank: Rank, deadline: float, *first: FairSemaphore) -> Answer:
        """Have a process do what is ordered, after the turns that have to come ``first``."""
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
                    # It is dead, or nobody waits for it any more. Its turns are over when it has ended,
                    # not before: they bound the memory.
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
        """Fork a process, by a new fork_server where the old one has died."""
        try:
            for _ in range(3):  # the first may have died long ago, and one may be killed while it begins
                if self._fork_server is None:
                    self._fork_server = ForkServer()
                fork_server = self._fork_server
                with suppress(EOFError, ConnectionError):
                    self._idle.append(await fork_server.fork())
                    return
                if self._fork_server is fork_server:
                    self._fork_server = None
                await asyncio.wrap_future(in_thread(fork_server.close))
        except OSError as error:  # no descriptors, or no process numbers
            raise MemoryError("no process could be started") from error
        raise RuntimeError("the process that decodes images cannot be started")

    async def _end(
        self, process: Process, turns: ExitStack, *, overtime: str = "timeout", cancelled: bool = False
    ) -> int:
        """Kill a process, then give back its ``turns``; its exit status, negative for a signal.

        ``overtime`` is the reason that is counted where it took too much time.
        """
        with turns:
            try:
                status = await process.end()
            except (EOFError, OSError):  # its fork_server has died, and it with that
                status = -signal.SIGKILL
        reasons = {-signal.SIGPROF: overtime, -signal.SIGKILL: "killed"}
        self._metrics.decoder_ended("cancelled" if cancelled else reasons.get(status, "crashed"))
        return status

    def _death(self, status: int) -> Exception:
        """What the death of a process says of its image."""
        if status == -signal.SIGPROF:
            return ImageTooCostly(
                f"Decoding the image takes more than {self._timeout:g} s of processor time."
            )
        if status == -signal.SIGKILL:  # as the kernel does where memory is short
            return MemoryError("a process that decoded an image was killed")
        return CorruptImage("The image is damaged: its decoder crashed.")

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do ``work`` to its end, whether its caller is cancelled or not."""

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
            task.exception()  # told to the caller; else asyncio logs it where that was cancelled

    @contextmanager
    def _watched(self) -> Iterator[None]:
        key = object()
        self._since[key] = time.monotonic()
        try:
            yield
        finally:
            del self._since[key]


def _result(answer: Answer, wanted: dict[str, Any]) -> tuple[Decoded, Quality]:
    """What an answer says, or the exception that it stands for."""
    found, pixels = answer
    if "short_of_memory" in found:
        raise ImageTooCostly("Decoding the image takes more memory than an image may.")
    if "refused" in found:
        kind = getattr(errors, found["refused"])
        if not issubclass(kind, ImageError):
            raise ValueError("a process that decodes images answers nonsense")
        raise kind(found["detail"])
    if "failed" in found:
        raise RuntimeError(f"an image could not be decoded: {found['failed']}")
    shaped = pixels.reshape(wanted["height"], wanted["width"], -1)
    return Decoded(pixels=shaped, **found["image"]), Quality(**found["quality"])
