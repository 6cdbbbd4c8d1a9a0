"""Dynamic batching: collects single items into batches for a function that is faster on many at once.

The module knows neither images nor HTTP. A few threads share one queue, and each runs one batch at a
time. The first item starts the clock. A batch runs when it is full or when the wait is over.
``service.system.fair_queue`` decides which items come first.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar
from weakref import ref

from service.errors import DeadlinePassed, ShuttingDown, Stuck
from service.observability.metrics import Metrics
from service.system.fair_queue import DEFAULT_RANK, FairQueue, Rank
from service.system.threads import show_name

Item = TypeVar("Item")
Result = TypeVar("Result")

_NOT_RUNNING = float("inf")

logger = logging.getLogger(__name__)


class _Entry(Generic[Item, Result]):
    """One submitted item with its future, its rank, its deadline and the time of its submission."""

    __slots__ = ("__weakref__", "deadline", "future", "item", "rank", "submitted")

    def __init__(self, item: Item, rank: Rank, deadline: float) -> None:
        self.item = item
        self.rank = rank
        self.future: Future[Result] = Future()
        self.submitted = time.monotonic()
        self.deadline = deadline

    def pending(self) -> bool:
        """Whether the item still needs a result. After its deadline, its future fails here."""
        if time.monotonic() >= self.deadline:
            self.fail(DeadlinePassed("The deadline passed before inference started."))
        return not self.future.done()

    def succeed(self, result: Result) -> None:
        """Set the result, unless the future was cancelled."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        """Set the exception, unless the future was cancelled."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Batcher(Generic[Item, Result]):
    """Calls ``run`` on batches of submitted items, in its own threads.

    The queue has no limit. The callers limit what they submit.
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
            run: maps items to as many results, in the same order. MemoryError means that a smaller batch
                may succeed. With several ``workers``, ``run`` must be thread-safe.
            workers: number of threads, each of which calls ``run``.
            max_batch_size: largest number of items in one call of ``run``.
            batch_timeout: seconds that the first item of a batch waits for others.
            metrics: records the length of the queue, the waits and the batches.
            stuck_after: seconds in one call of ``run`` after which ``alive`` is false.
        """
        self._run = run
        self._stuck_after = stuck_after
        self._max_batch_size = max_batch_size
        self._batch_timeout = batch_timeout
        self._metrics = metrics
        self._queue: FairQueue[_Entry[Item, Result]] = FairQueue()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._loop, name=f"batcher-{number}", daemon=True)
            for number in range(workers)
        ]
        # Start of the current call of ``run`` of each thread. Its keys never change, because ``alive``
        # iterates over it without a lock.
        self._running_since = dict.fromkeys(self._threads, _NOT_RUNNING)
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether every thread runs and none has been in ``run`` for more than ``stuck_after`` seconds."""
        longest = time.monotonic() - min(self._running_since.values())
        return longest <= self._stuck_after and all(thread.is_alive() for thread in self._threads)

    def submit(
        self, item: Item, *, rank: Rank = DEFAULT_RANK, deadline: float = float("inf")
    ) -> Future[Result]:
        """Queue ``item`` and return the future of its result.

        An item never runs if its future is cancelled, or ``deadline`` (on the clock of
        ``time.monotonic``) passes, before its batch starts.

        Raises:
            ShuttingDown: the batcher is closed.
            Stuck: the batcher is not alive.
        """
        entry: _Entry[Item, Result] = _Entry(item, rank, deadline)
        with self._changed:
            if self._closed:
                raise ShuttingDown
            if not self.alive:
                raise Stuck
            self._queue.push(entry, rank)
            self._metrics.queue_depth(len(self._queue))
            self._changed.notify()
        entry.future.add_done_callback(partial(self._remove_cancelled, ref(entry)))
        return entry.future

    def close(self, timeout: float | None = None) -> None:
        """Reject new items, run the queued ones and end the threads.

        Items still queued after ``timeout`` seconds fail with ShuttingDown.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        until = float("inf") if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            thread.join(min(max(0.0, until - time.monotonic()), threading.TIMEOUT_MAX))
        with self._changed:
            remaining, self._queue = list(self._queue), FairQueue()
        for entry in remaining:
            entry.fail(ShuttingDown())

    def _remove_cancelled(self, reference: "ref[_Entry[Item, Result]]", future: Future[Result]) -> None:
        """Remove a cancelled item from the queue, to free its memory at once.

        The reference is weak. A strong one would make a cycle (entry, future, callback) that only the
        garbage collector frees.
        """
        cancelled = reference() if future.cancelled() else None
        if cancelled is None:
            return
        with self._changed, suppress(ValueError):  # the item may be in a batch already
            self._queue.remove(cancelled, cancelled.rank)
            self._metrics.queue_depth(len(self._queue))

    def _loop(self) -> None:
        show_name()
        while batch := self._next_batch():
            now = time.monotonic()
            self._metrics.batch_started([now - entry.submitted for entry in batch])
            parts = [batch]
            while parts:
                if part := [entry for entry in parts.pop(0) if entry.pending()]:
                    parts = self._execute(part) + parts

    def _next_batch(self) -> list[_Entry[Item, Result]]:
        """Wait for a batch. It is empty once the batcher is closed and its queue is empty."""
        batch: list[_Entry[Item, Result]] = []
        with self._changed:
            while not batch and not (self._closed and not self._queue):
                # Recomputed after each wait: another thread may have taken the items meanwhile.
                seconds = self._seconds_to_start()
                if seconds is None or seconds > 0:
                    self._changed.wait(seconds)
                    continue
                batch = [entry for entry in self._take() if entry.pending()]
                self._metrics.queue_depth(len(self._queue))
        return batch

    def _take(self) -> list[_Entry[Item, Result]]:
        """Take the items of the next batch from the queue.

        Where none waits for others, a thread takes its share of the queue, because the other threads run the
        rest at the same time, and items of one client only, whose batch delays no other client's item.
        """
        if self._batch_timeout > 0:
            return [self._queue.pop() for _ in range(min(len(self._queue), self._max_batch_size))]
        share = -(-len(self._queue) // len(self._threads))
        return self._queue.pop_turn(min(share, self._max_batch_size))

    def _seconds_to_start(self) -> float | None:
        """Seconds until the next batch starts. None if the queue is empty."""
        if not self._queue:
            return None
        if len(self._queue) >= self._max_batch_size or self._closed:
            return 0.0
        return min(entry.submitted for entry in self._queue) + self._batch_timeout - time.monotonic()

    def _execute(self, batch: list[_Entry[Item, Result]]) -> list[list[_Entry[Item, Result]]]:
        """Run ``batch`` and complete its futures. If it fails, return the smaller batches to try instead."""
        start = time.monotonic()
        try:
            results = self._call_run(batch)
        except Exception as error:
            # An error of ``run`` belongs to the items. The thread must survive it.
            if len(batch) == 1:
                batch[0].fail(error)
                return []
            # Half a batch may fit into memory. Other errors may come from one item: try each alone.
            size = (len(batch) + 1) // 2 if isinstance(error, MemoryError) else 1
            logger.warning("A batch of %d failed; trying %d at a time.", len(batch), size, exc_info=True)
            return [batch[at : at + size] for at in range(0, len(batch), size)]
        self._metrics.batch_finished(time.monotonic() - start)
        for entry, result in zip(batch, results, strict=True):
            entry.succeed(result)
        return []

    def _call_run(self, batch: list[_Entry[Item, Result]]) -> Sequence[Result]:
        thread = threading.current_thread()
        self._running_since[thread] = time.monotonic()
        try:
            results = self._run([entry.item for entry in batch])
        finally:
            self._running_since[thread] = _NOT_RUNNING
        if len(results) != len(batch):
            raise RuntimeError(f"{len(batch)} items gave {len(results)} results")
        return results
