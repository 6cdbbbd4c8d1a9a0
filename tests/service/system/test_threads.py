"""``Workers``: so many threads at a time, results that come back, nothing that is kept."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress

import pytest

from service.system.threads import Workers
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


def test_threads_end_with_their_calls() -> None:
    before = threading.active_count()

    async def run() -> None:
        await Workers(1).run(int)

    asyncio.run(run())
    wait_for(lambda: threading.active_count() <= before)
