"""Waiting for another machine: growing pauses with a limit, and an end for faults of one instance."""

import threading
from collections.abc import Callable

import pytest

from service.bridge.waits import MAX_FAULTS, Stopping, Waits
from service.errors import Away, InstanceRefused


class Clock(threading.Event):
    """An event that notes how long it is waited for, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        if timeout:
            self.pauses.append(timeout)
        return self.is_set()


def failing(times: int, error: Exception) -> Callable[[], str]:
    """An action that fails so often, and then returns ``done``."""
    left = [error] * times

    def action() -> str:
        if left:
            raise left.pop()
        return "done"

    return action


def test_pauses_double_up_to_the_longest() -> None:
    clock = Clock()
    assert Waits(20, clock).repeat(failing(7, Away("the archive does not answer"))) == "done"
    assert clock.pauses == [1, 2, 4, 8, 16, 20, 20]


def test_who_is_away_for_long_is_waited_for() -> None:
    clock = Clock()
    assert Waits(60, clock).repeat(failing(5000, Away("the archive does not answer"))) == "done"
    assert clock.pauses[-1] == 60


@pytest.mark.parametrize(("asked", "pause"), [(0, 1), (7, 7), (3600, 60)])
def test_what_the_other_side_asks_for_is_kept_within_the_longest(asked: float, pause: float) -> None:
    clock = Clock()
    Waits(60, clock).repeat(failing(1, Away("the service answered 503", retry_after=asked)))
    assert clock.pauses == [pause]


def test_a_fault_is_met_a_few_times_only() -> None:
    clock = Clock()
    fault = Away("the archive answered 500", fault=True)
    assert Waits(60, clock).repeat(failing(MAX_FAULTS - 1, fault)) == "done"
    with pytest.raises(InstanceRefused, match=f"the archive answered 500, {MAX_FAULTS} times"):
        Waits(60, clock).repeat(failing(MAX_FAULTS, fault))


def test_other_errors_are_not_repeated() -> None:
    clock = Clock()
    with pytest.raises(InstanceRefused):
        Waits(60, clock).repeat(failing(1, InstanceRefused("the archive answered 404")))
    assert clock.pauses == []


def test_stopping_ends_a_pause_and_begins_nothing_new() -> None:
    clock = Clock()
    clock.set()
    begun: list[None] = []
    with pytest.raises(Stopping):
        Waits(60, clock).repeat(lambda: begun.append(None))
    assert begun == []
