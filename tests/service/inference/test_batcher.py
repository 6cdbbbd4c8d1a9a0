"""``Batcher`` on numbers: batch limits, cancellation, deadlines, failures, shutdown, several workers."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from service.errors import DeadlinePassed, NotReady
from service.inference.batcher import Batcher
from service.observability.metrics import Metrics
from service.system.fair_queue import Rank
from tests.service.app_client import wait_for


class Work:
    """A ``run`` that doubles numbers once ``go`` is set, and records the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.started = threading.Semaphore(0)
        self.short_of_memory = 99

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.started.release()
        assert self.go.wait(20)
        if len(items) >= self.short_of_memory:
            raise MemoryError
        if any(item < 0 for item in items):
            raise ValueError("negative")
        return [2 * item for item in items]


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.go.set()


class MetricsLog(Metrics):
    """Metrics that record the lengths of the queue and the sizes of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.depths: list[int] = []
        self.sizes: list[int] = []

    def queue_depth(self, depth: int) -> None:
        self.depths.append(depth)

    def batch_started(self, waits: Sequence[float]) -> None:
        self.sizes.append(len(waits))


def batcher(
    run: Callable[[Sequence[int]], Sequence[int]],
    *,
    workers: int = 1,
    size: int = 4,
    timeout: float = 0.0,
    stuck_after: float = float("inf"),
    metrics: Metrics | None = None,
) -> Batcher[int, int]:
    return Batcher(
        run,
        workers=workers,
        max_batch_size=size,
        batch_timeout=timeout,
        metrics=metrics or Metrics(),
        stuck_after=stuck_after,
    )


def test_each_item_gets_its_own_result(work: Work) -> None:
    work.go.set()
    b = batcher(work)
    futures = [b.submit(i) for i in range(50)]
    assert [f.result(20) for f in futures] == [2 * i for i in range(50)]
    assert max(map(len, work.batches)) <= 4
    b.close()


def test_items_queued_during_a_batch_form_the_next_one_up_to_the_limit(work: Work) -> None:
    b = batcher(work)
    first = b.submit(0)
    assert work.started.acquire(timeout=20)
    rest = [b.submit(i) for i in range(1, 7)]
    work.go.set()
    assert [f.result(20) for f in [first, *rest]] == [0, 2, 4, 6, 8, 10, 12]
    assert work.batches == [[0], [1, 2, 3, 4], [5, 6]]
    b.close()


def test_a_full_batch_runs_at_once(work: Work) -> None:
    work.go.set()
    b = batcher(work, size=2, timeout=600)
    assert [f.result(20) for f in (b.submit(1), b.submit(2))] == [2, 4]
    assert work.batches == [[1, 2]]
    b.close()


def test_the_first_item_starts_the_clock(work: Work) -> None:
    work.go.set()
    b = batcher(work, size=100, timeout=0.05)
    assert b.submit(1).result(20) == 2
    assert work.batches == [[1]]
    b.close()


def test_cancelled_and_expired_items_are_never_run(work: Work) -> None:
    b = batcher(work)
    first = b.submit(0)
    assert work.started.acquire(timeout=20)
    cancelled, expired, wanted = b.submit(1), b.submit(2, deadline=time.monotonic()), b.submit(3)
    assert cancelled.cancel()
    work.go.set()
    assert (first.result(20), wanted.result(20)) == (0, 6)
    with pytest.raises(DeadlinePassed):
        expired.result(20)
    assert work.batches == [[0], [3]]
    b.close()


def test_cancelled_items_leave_the_queue_at_once(work: Work) -> None:
    log = MetricsLog()
    b = batcher(work, metrics=log)
    b.submit(0)
    assert work.started.acquire(timeout=20)
    abandoned, wanted = b.submit(1), b.submit(2)
    assert log.depths[-1] == 2
    assert abandoned.cancel()
    assert log.depths[-1] == 1
    work.go.set()
    assert wanted.result(20) == 4
    b.close()


def test_retries_after_a_failed_batch_skip_expired_and_cancelled_items(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MetricsLog()
    b = batcher(work, metrics=log)
    b.submit(0)
    assert work.started.acquire(timeout=20)
    until = time.monotonic() + 600
    bad, late, left, good = b.submit(-1), b.submit(1, deadline=until), b.submit(2), b.submit(3)
    work.go.set()
    work.go.clear()
    assert work.started.acquire(timeout=20)  # the batch of four runs
    assert left.cancel()
    monkeypatch.setattr("service.inference.batcher.time.monotonic", lambda: until)
    work.go.set()
    assert good.result(20) == 6
    for future, error in ((bad, ValueError), (late, DeadlinePassed)):
        with pytest.raises(error):
            future.result(20)
    assert work.batches == [[0], [-1, 1, 2, 3], [-1], [3]]
    assert log.sizes == [1, 4]
    b.close()


def test_one_bad_item_never_fails_its_neighbours(work: Work) -> None:
    b = batcher(work)
    b.submit(0)
    assert work.started.acquire(timeout=20)
    good, bad, other = b.submit(1), b.submit(-1), b.submit(2)
    work.go.set()
    assert (good.result(20), other.result(20)) == (2, 4)
    with pytest.raises(ValueError, match="negative"):
        bad.result(20)
    assert b.submit(5).result(20) == 10
    assert b.alive
    b.close()


def test_a_batch_without_enough_memory_is_halved_down_to_one_in_order(work: Work) -> None:
    work.short_of_memory = 3
    b = batcher(work, size=8)
    b.submit(0)
    assert work.started.acquire(timeout=20)
    futures = [b.submit(i) for i in range(1, 8)]
    work.go.set()
    assert [f.result(20) for f in futures] == [2 * i for i in range(1, 8)]
    assert work.batches[1:] == [[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4], [1, 2], [3, 4], [5, 6, 7], [5, 6], [7]]
    work.short_of_memory = 1
    with pytest.raises(MemoryError):
        b.submit(1).result(20)
    work.short_of_memory = 99
    assert b.submit(1).result(20) == 2
    b.close()


def test_a_cancelled_item_is_not_retried_after_a_lack_of_memory(work: Work) -> None:
    work.short_of_memory = 2
    b = batcher(work)
    b.submit(0)
    assert work.started.acquire(timeout=20)
    left, good = b.submit(1), b.submit(2)
    work.go.set()
    work.go.clear()
    assert work.started.acquire(timeout=20)  # the batch of two runs
    assert left.cancel()
    work.go.set()
    assert good.result(20) == 4
    assert work.batches == [[0], [1, 2], [2]]
    b.close()


def test_a_hanging_batcher_is_not_alive_and_rejects_items_until_it_recovers(work: Work) -> None:
    b = batcher(work, stuck_after=0.1)
    hanging = b.submit(1)
    assert b.alive
    wait_for(lambda: not b.alive)
    with pytest.raises(NotReady) as refused:
        b.submit(2)
    assert refused.value.reason == "stuck"
    work.go.set()
    assert hanging.result(20) == 2
    wait_for(lambda: b.alive)
    assert b.submit(2).result(20) == 4
    b.close()


def test_too_few_results_are_an_error() -> None:
    b = batcher(lambda _: [])
    with pytest.raises(RuntimeError, match="1 items gave 0 results"):
        b.submit(1).result(20)
    b.close()


def test_closing_runs_queued_items_and_rejects_new_ones(work: Work) -> None:
    b = batcher(work, timeout=600)
    futures = [b.submit(i) for i in range(3)]
    work.go.set()
    b.close()
    assert [f.result(20) for f in futures] == [0, 2, 4]
    assert not b.alive
    with pytest.raises(NotReady):
        b.submit(1)


def test_closing_fails_the_items_still_queued_after_its_timeout(work: Work) -> None:
    b = batcher(work, size=1)
    b.submit(0)
    assert work.started.acquire(timeout=20)
    left = b.submit(1)
    b.close(timeout=0.05)
    with pytest.raises(NotReady):
        left.result(20)


def test_as_many_batches_run_at_a_time_as_there_are_workers(work: Work) -> None:
    log = MetricsLog()
    b = batcher(work, workers=3, size=1, metrics=log)
    futures = [b.submit(i) for i in range(8)]
    for _ in range(3):
        assert work.started.acquire(timeout=20)
    assert not work.started.acquire(timeout=0.1)
    assert log.depths[-1] == 5
    work.go.set()
    assert [f.result(20) for f in futures] == [2 * i for i in range(8)]
    assert log.sizes == [1] * 8
    b.close()


def test_several_workers_still_fill_their_batches(work: Work) -> None:
    work.go.set()
    b = batcher(work, workers=3, size=2, timeout=600)
    futures = [b.submit(i) for i in range(50)]
    assert [f.result(20) for f in futures] == [2 * i for i in range(50)]
    assert sorted(work.batches) == [[i, i + 1] for i in range(0, 50, 2)]
    b.close()


def test_without_a_wait_each_worker_takes_its_share_of_the_queue(work: Work) -> None:
    b = batcher(work, workers=2, size=4, timeout=0)
    running = [b.submit(i) for i in range(2)]
    for _ in running:
        assert work.started.acquire(timeout=20)
    waiting = [b.submit(i) for i in range(2, 8)]
    work.go.set()
    assert [f.result(20) for f in running + waiting] == [2 * i for i in range(8)]
    # Half of the six that wait, then half of what is left.
    assert sorted(work.batches) == [[0], [1], [2, 3, 4], [5, 6], [7]]
    b.close()


def test_where_none_waits_for_others_a_batch_has_items_of_one_client(work: Work) -> None:
    """Who asks now and then would wait longer for a batch that others' items fill."""
    b = batcher(work, size=2)
    running = b.submit(0, rank=Rank("busy", 0.0))
    assert work.started.acquire(timeout=20)
    waiting = [b.submit(i, rank=Rank("busy" if i < 5 else "rare", 0.0)) for i in range(1, 6)]
    work.go.set()
    assert [f.result(20) for f in [running, *waiting]] == [0, 2, 4, 6, 8, 10]
    assert work.batches == [[0], [5], [1, 2], [3, 4]]
    b.close()


def test_where_items_wait_for_others_clients_share_a_batch(work: Work) -> None:
    work.go.set()
    b = batcher(work, size=4, timeout=600)
    futures = [b.submit(i, rank=Rank(i, 0.0)) for i in range(4)]
    assert [f.result(20) for f in futures] == [0, 2, 4, 6]
    assert work.batches == [[0, 1, 2, 3]]
    b.close()


def test_a_failing_batch_does_not_fail_a_concurrent_one(work: Work) -> None:
    b = batcher(work, workers=2, size=1)
    good, bad = b.submit(1), b.submit(-1)
    for _ in range(2):
        assert work.started.acquire(timeout=20)
    work.go.set()
    assert good.result(20) == 2
    with pytest.raises(ValueError, match="negative"):
        bad.result(20)
    b.close()


def test_one_hanging_worker_makes_the_batcher_not_alive() -> None:
    go = threading.Event()

    def run(items: Sequence[int]) -> Sequence[int]:
        assert items[0] >= 0 or go.wait(20)
        return items

    b = batcher(run, workers=2, size=1, stuck_after=0.1)
    hanging, others = b.submit(-1), [b.submit(i) for i in range(10)]
    assert [f.result(20) for f in others] == list(range(10))
    wait_for(lambda: not b.alive)
    go.set()
    assert hanging.result(20) == -1
    wait_for(lambda: b.alive)
    b.close()


def test_closing_waits_for_every_worker_within_its_timeout(work: Work) -> None:
    b = batcher(work, workers=2, size=1)
    futures = [b.submit(i) for i in range(3)]
    for _ in range(2):
        assert work.started.acquire(timeout=20)
    b.close(timeout=0.2)
    assert b.alive
    with pytest.raises(NotReady):
        futures[2].result(20)
    work.go.set()
    assert [f.result(20) for f in futures[:2]] == [0, 2]
    b.close()
    assert not b.alive
