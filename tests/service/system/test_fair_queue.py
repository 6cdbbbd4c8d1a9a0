"""Clients take turns: in a queue, for places, and at a live service's decoders and inference."""

import asyncio
import itertools
import random
from collections import Counter

import pytest

from service.system.fair_queue import DEFAULT_RANK, FairQueue, FairSemaphore, Rank, client_of


def queue_of(*items: tuple[str, float]) -> FairQueue[str]:
    queue: FairQueue[str] = FairQueue()
    for name, rested_since in items:
        queue.push(name, Rank(name[0], rested_since))
    return queue


def taken(queue: FairQueue[str]) -> list[str]:
    return [queue.pop() for _ in range(len(queue))]


def test_clients_take_turns_however_much_each_asks_for() -> None:
    queue = queue_of(*((f"a{number}", 0.0) for number in range(6)), ("b0", 0.0), ("c0", 0.0), ("b1", 0.0))
    assert taken(queue) == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4", "a5"]


def test_of_one_client_the_connection_that_has_rested_the_longest_comes_first() -> None:
    assert taken(queue_of(("a1", 5.0), ("a2", 5.0), ("a3", 4.0), ("a4", 6.0))) == ["a3", "a1", "a2", "a4"]
    assert taken(queue_of(*((f"a{number}", 0.0) for number in range(5)))) == ["a0", "a1", "a2", "a3", "a4"]


def test_who_comes_anew_waits_for_one_item_of_each_and_gains_nothing_by_having_rested() -> None:
    queue = queue_of(*((f"a{number}", 0.0) for number in range(9)))
    first = [queue.pop() for _ in range(4)]
    for name in ("b0", "b1", "b2"):
        queue.push(name, Rank("b", 0.0))
    assert first + taken(queue) == ["a0", "a1", "a2", "a3", "b0", "a4", "b1", "a5", "b2", "a6", "a7", "a8"]


def test_several_items_of_one_client_cost_it_as_many_turns() -> None:
    queue = queue_of(*((f"a{number}", 0.0) for number in range(5)), ("b0", 0.0), ("b1", 0.0), ("b2", 0.0))
    turns = []
    while queue:
        turns.append(queue.pop_turn(2))
    assert turns == [["a0", "a1"], ["b0", "b1"], ["a2", "a3"], ["b2"], ["a4"]]


def test_a_client_that_never_has_two_items_waiting_gets_its_turns_and_no_more() -> None:
    """Whether it comes back at once or later: a place in between was someone else's."""
    queue = queue_of(*((f"a{number}", 0.0) for number in range(20)))
    order = []
    for number in range(6):
        queue.push(f"b{number}", Rank("b", 0.0))
        order += [queue.pop(), queue.pop()]
    assert Counter(name[0] for name in order) == {"a": 6, "b": 6}


def test_no_client_is_overtaken_for_ever_by_ones_that_come_anew() -> None:
    queue = queue_of(("a0", 0.0), ("a1", 0.0))
    assert queue.pop() == "a0"
    order = []
    for number in itertools.count():
        queue.push(f"new{number}", Rank(f"new{number}", 0.0))
        order.append(queue.pop())
        if order[-1] == "a1":
            break
        assert number < 10
    assert len(queue) > 0


def test_what_is_taken_out_is_not_taken_again_and_what_is_not_there_is_an_error() -> None:
    queue = queue_of(("a0", 3.0), ("a1", 1.0), ("a2", 2.0), ("b0", 0.0))
    queue.remove("a1", Rank("a", 1.0))
    queue.remove("b0", Rank("b", 0.0))
    for gone in ("a1", "b0", "c"):
        with pytest.raises(ValueError, match="not in the queue"):
            queue.remove(gone, Rank(gone[0], 0.0))
    assert sorted(queue) == ["a0", "a2"]
    assert taken(queue) == ["a2", "a0"]
    with pytest.raises(IndexError):
        queue.pop()


def test_clients_that_are_gone_are_forgotten() -> None:
    queue = queue_of()
    for number in range(20_000):
        queue.push("x", Rank(number, 0.0))
        queue.pop()
    assert len(queue._numbers) <= 2_000


@pytest.mark.parametrize("seed", range(5))
def test_places_are_never_more_than_there_are_and_none_is_lost_whoever_gives_up(seed: int) -> None:
    async def run() -> None:
        draw = random.Random(seed)
        places = FairSemaphore(3)
        inside, most = 0, 0

        async def work(client: int) -> None:
            nonlocal inside, most
            async with places.place(Rank(client, draw.random())):
                inside += 1
                most = max(most, inside)
                try:
                    await asyncio.sleep(draw.random() / 1000)
                finally:
                    inside -= 1

        tasks = [asyncio.create_task(work(draw.randrange(4))) for _ in range(300)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            draw.choice(tasks).cancel()
        assert most == 3
        for _ in range(3):
            await asyncio.wait_for(places.acquire(DEFAULT_RANK), 20)
        assert not places._line

    asyncio.run(run())


def test_a_client_is_an_address_or_a_network_of_ipv6() -> None:
    assert client_of("192.0.2.1") == client_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff:1")
    assert client_of("2001:db8::1") != client_of("2001:db8:0:1::1")
    assert client_of("fe80::1%eth0") == client_of("fe80::2%eth1")
    assert client_of(None) is None
