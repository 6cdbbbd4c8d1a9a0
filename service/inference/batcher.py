"""Collect single items into batches for a function that works best on many at once.

It knows neither images nor HTTP. A few threads take from one queue, each one batch at a
time. The first item starts the clock; a batch goes when it is full or when the wait is over.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar
from weakref import ref

from service.errors import DeadlinePassed, ShuttingDown, Stuck
from service.observability.metrics import Metrics
from service.system.threads import show_name

Item = TypeVar("Item")
Result = TypeVar("Result")

_NOT_RUNNING = float("inf")

logger = logging.getLogger(__name__)


class _Waiting(Generic[Item, Result]):
    """One submitted item with its future and times."""

    __slots__ = ("__weakref__", "deadline", "future", "item", "since")

    def __init__(self, item: Item, deadline: float) -> None:
        self.item = item
        self.future: Future[Result] = Future()
        self.since = time.monotonic()
        self.deadline = deadline

    def wanted(self) -> bool:
        """Whether it is still waited for, and in time; if too late, its future is told."""
        if time.monotonic() >= self.deadline:
            self.fail(DeadlinePassed("The deadline passed while waiting in the queue."))
        return not self.future.done()

    def answer(self, result: Result) -> None:
        """Give the future its result, unless it was cancelled."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        """Give the future its error, unless it was cancelled."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Batcher(Generic[Item, Result]):
    """Runs ``run`` on batches of submitted items, on threads of its own.

    The queue holds what is waited for and has no limit of its own: that is up to those who submit.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        workers: int,
        max_batch_size: int,
        batch_timeout: float,
        metrics: Metrics,
        stuck_after: float = float("inf"),
    ) -> None:
        """Start the threads.

        Args:
            run: items to as many results, in order. MemoryError means that fewer items may do. With
                several ``workers`` it must be thread-safe.
            workers: most calls of ``run`` at one time.
            max_batch_size: most items per call of ``run``.
            batch_timeout: seconds that the first item of a batch waits for others.
            metrics: records the length of the queue, the waits and the batches.
            stuck_after: seconds of one call of ``run`` after which the batcher is not ``alive``.
        """
        self._run = run
        self._stuck_after = stuck_after
        self._max_batch_size = max_batch_size
        self._batch_timeout = batch_timeout
        self._metrics = metrics
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._loop, name=f"batcher-{number}", daemon=True)
            for number in range(workers)
        ]
        # Of each thread, the start of its call of ``run``. Never grows: others look at it meanwhile.
        self._running_since = dict.fromkeys(self._threads, _NOT_RUNNING)
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether all threads work: with a dead or hanging one a server must not call itself ready."""
        longest = time.monotonic() - min(self._running_since.values())
        return longest <= self._stuck_after and all(thread.is_alive() for thread in self._threads)

    def submit(self, item: Item, *, deadline: float = float("inf")) -> Future[Result]:
        """Queue ``item``; its future gets its own result or error.

        Cancelling the future, or passing ``deadline`` (on the clock of ``time.monotonic``),
        before its batch goes means that it is never run.

        Raises:
            ShuttingDown: the batcher is closed.
            Stuck: it hangs.
        """
        waiting: _Waiting[Item, Result] = _Waiting(item, deadline)
        with self._changed:
            if self._closed:
                raise ShuttingDown
            if not self.alive:
                raise Stuck
            self._queue.append(waiting)
            self._metrics.queue_depth(len(self._queue))
            self._changed.notify()
        waiting.future.add_done_callback(partial(self._forget, ref(waiting)))
        return waiting.future

    def close(self, timeout: float | None = None) -> None:
        """Take nothing new, run what is queued, and end the threads.

        What is still queued after ``timeout`` seconds gets ShuttingDown as its error.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        until = float("inf") if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            thread.join(min(max(0.0, until - time.monotonic()), threading.TIMEOUT_MAX))
        with self._changed:
            left, self._queue = self._queue, deque()
        for waiting in left:
            waiting.fail(ShuttingDown())

    def _forget(self, done: "ref[_Waiting[Item, Result]]", future: Future[Result]) -> None:
        """Take an abandoned item out of the queue, so that it holds no memory there.

        Weakly held, for it holds its future, which holds this: it, and this batcher, would go only
        when the garbage is collected.
        """
        cancelled = done() if future.cancelled() else None
        if cancelled is None:
            return
        with self._changed, suppress(ValueError):  # it may be in a batch already
            self._queue.remove(cancelled)
            self._metrics.queue_depth(len(self._queue))

    def _loop(self) -> None:
        show_name()
        while batch := self._next_batch():
            self._execute(batch)

    def _next_batch(self) -> list[_Waiting[Item, Result]]:
        """Wait for work; an empty list means closed and done."""
        batch: list[_Waiting[Item, Result]] = []
        with self._changed:
            while not batch and not (self._closed and not self._queue):
                # Looked at anew after each wait: another thread may have taken what was there.
                left = self._seconds_to_go()
                if left is None or left > 0:
                    self._changed.wait(left)
                    continue
                while self._queue and len(batch) < self._max_batch_size:
                    waiting = self._queue.popleft()
                    if waiting.wanted():
                        batch.append(waiting)
                self._metrics.queue_depth(len(self._queue))
        return batch

    def _seconds_to_go(self) -> float | None:
        """How long the first item still waits for others; None without one."""
        if not self._queue:
            return None
        if len(self._queue) >= self._max_batch_size or self._closed:
            return 0.0
        return self._queue[0].since + self._batch_timeout - time.monotonic()

    def _execute(self, batch: list[_Waiting[Item, Result]]) -> None:
        now = time.monotonic()
        self._metrics.batch_started([now - w.since for w in batch])
        parts = self._answer(batch)
        while parts:
            if wanted := [waiting for waiting in parts.pop(0) if waiting.wanted()]:
                parts = self._answer(wanted) + parts

    def _answer(self, batch: list[_Waiting[Item, Result]]) -> list[list[_Waiting[Item, Result]]]:
        """Run ``batch`` and give its items their answers; or return it in parts, to be tried instead."""
        start = time.monotonic()
        try:
            results = self._results(batch)
        except Exception as error:
            # Whatever ``run`` raises belongs to the items, not to this thread, which must live on.
            if len(batch) == 1:
                batch[0].fail(error)
                return []
            # For lack of memory half as many may do; else a single item may fail all others.
            size = (len(batch) + 1) // 2 if isinstance(error, MemoryError) else 1
            logger.warning("A batch of %d failed; trying %d at a time.", len(batch), size, exc_info=True)
            return [batch[at : at + size] for at in range(0, len(batch), size)]
        self._metrics.batch_finished(time.monotonic() - start)
        for waiting, result in zip(batch, results, strict=True):
            waiting.answer(result)
        return []

    def _results(self, batch: list[_Waiting[Item, Result]]) -> Sequence[Result]:
        thread = threading.current_thread()
        self._running_since[thread] = time.monotonic()
        try:
            results = self._run([w.item for w in batch])
        finally:
            self._running_since[thread] = _NOT_RUNNING
        if len(results) != len(batch):
            raise RuntimeError(f"{len(batch)} items gave {len(results)} results")
        return results
