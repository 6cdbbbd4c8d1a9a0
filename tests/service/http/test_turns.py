"""Many connections that ask without a pause, and one that asks now and then."""

import asyncio
from collections.abc import Callable

import pytest

from service.http.turns import Turns
from service.system.fair_queue import rank_of

NEVER = float("-inf")


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("service.system.fair_queue.time.monotonic", lambda: self.now)


def order_of(work: Callable[[Turns, Callable[[str], Callable[[], None]]], None]) -> list[str]:
    """Names in the order of their starts, a stroke for each iteration of the event loop."""
    started: list[str] = []

    async def run() -> None:
        turns = Turns()
        work(turns, lambda name: lambda: started.append(name))
        while turns._taken:
            started.append("|")
            await asyncio.sleep(0)

    asyncio.run(run())
    return started


def test_a_lone_request_begins_at_once_and_of_many_one_begins_in_an_iteration() -> None:
    def work(turns: Turns, named: Callable[[str], Callable[[], None]]) -> None:
        for name in "abc":
            turns.take(named(name), rank_of("a", NEVER))

    assert [name for name in order_of(work) if name != "|"] == ["a", "b", "c"]
    assert order_of(work)[:2] == ["a", "|"]
    assert "bc" not in "".join(order_of(work))


def test_the_connection_that_has_rested_the_longest_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def work(turns: Turns, named: Callable[[str], Callable[[], None]]) -> None:
        turns.take(named("first"), rank_of("a", NEVER))
        turns.take(named("asks without a pause"), rank_of("a", clock.now - 0.01))
        turns.take(named("rested"), rank_of("a", clock.now - 0.05))
        turns.take(named("new"), rank_of("a", NEVER))

    assert [name for name in order_of(work) if name != "|"] == [
        "first",
        "new",
        "rested",
        "asks without a pause",
    ]


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def work(turns: Turns, named: Callable[[str], Callable[[], None]]) -> None:
        turns.take(named("first"), rank_of("a", NEVER))
        turns.take(named("busy"), rank_of("a", clock.now))
        clock.now += 0.11
        turns.take(named("new"), rank_of("a", NEVER))

    assert [name for name in order_of(work) if name != "|"] == ["first", "busy", "new"]


def test_who_opens_a_connection_for_each_request_does_not_hold_up_kept_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred a second, and each iteration starts one: the line grows, but not before a kept connection."""
    clock = Clock(monkeypatch)
    waited: list[float] = []

    def work(turns: Turns, named: Callable[[str], Callable[[], None]]) -> None:
        for _ in range(20):
            turns.take(named("new"), rank_of("a", NEVER))
        begin = clock.now
        turns.take(lambda: waited.append(clock.now - begin), rank_of("a", clock.now - 0.01))
        for _ in range(200):
            clock.now += 0.01
            turns.take(named("new"), rank_of("a", NEVER))
            turns._next()

    order_of(work)
    assert waited[0] < 0.3
