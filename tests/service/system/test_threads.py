"""``Workers``: so many threads at a time, results that come back, nothing that is kept."""

import asyncio
import gc
import threading
import weakref
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue

import pytest

from service.system.threads import Threads, Workers
from tests.service.app_client import wait_for


class Image:
    """Something that can be watched going away."""


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def test_no_more_calls_are_made_at_a_time_than_there_are_threads() -> None:
    go, begun = threading.Event(), threading.Semaphore(0)

    def call(number: int) -> int:
        begun.release()
        assert go.wait(20)
        return number

    async def run() -> list[int]:
        workers = Workers(2)
        calls = [asyncio.create_task(workers.run(call, number)) for number in range(5)]
        for _ in range(2):
            assert await asyncio.to_thread(begun.acquire, timeout=20)
        assert not await asyncio.to_thread(begun.acquire, timeout=0.1)
        go.set()
        return await asyncio.gather(*calls)

    assert asyncio.run(run()) == [0, 1, 2, 3, 4]


def test_a_cancelled_call_holds_its_thread_until_it_is_done_and_one_that_waits_is_never_made() -> None:
    go = threading.Event()
    made: list[str] = []

    async def run() -> None:
        workers = Workers(1)
        held = asyncio.create_task(workers.run(go.wait, 20))
        waiting = asyncio.create_task(workers.run(made.append, "cancelled"))
        await asyncio.sleep(0.05)
        for task in (held, waiting):
            task.cancel()
        next_ = asyncio.create_task(workers.run(made.append, "next"))
        await asyncio.sleep(0.05)
        assert made == []
        go.set()
        await next_

    asyncio.run(run())
    assert made == ["next"]


@pytest.mark.usefixtures("no_collection")
def test_nothing_of_a_call_is_kept_whether_it_fails_or_not() -> None:
    def fail(image: Image) -> None:
        raise ValueError("no image")

    async def run() -> None:
        workers = Workers(1)
        for function in (fail, id):
            image = Image()
            gone = weakref.ref(image)
            with suppress(ValueError):
                await workers.run(function, image)
            del image
            await workers.run(int)
            assert gone() is None

    asyncio.run(run())


def test_a_thread_is_kept_for_the_next_call() -> None:
    threads, used = Threads(), SimpleQueue[int]()

    def call() -> None:
        used.put(threading.get_native_id())

    threads.submit(call)
    first = used.get(timeout=20)
    wait_for(lambda: threads.free == 1)
    threads.submit(call)
    assert used.get(timeout=20) == first


def test_a_thread_without_memory_for_its_start_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []

    def start(function: Callable[[], None], arguments: tuple[()]) -> None:
        started.append(function)
        if len(started) > 1:  # the first ends before it takes its call
            start_new_thread(function, arguments)

    monkeypatch.setattr("service.system.threads.start_new_thread", start)
    threads, done = Threads(), [threading.Event(), threading.Event()]
    for event in done:
        threads.submit(event.set)
    assert all(event.wait(20) for event in done)
    assert len(started) == 2


def test_no_more_threads_is_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("service.system.threads.start_new_thread", start)
    called = threading.Event()
    with pytest.raises(MemoryError):
        Threads().submit(called.set)
    assert not called.is_set()
