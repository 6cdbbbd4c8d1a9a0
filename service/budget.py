"""What threads may take together of something that there is only so much of."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import DeadlinePassed


class Budget:
    """A number of units that is never exceeded; who finds too few left waits."""

    def __init__(self, units: int) -> None:
        self._left = units
        self._returned = threading.Condition()
        self._turn = threading.Lock()

    @contextmanager
    def take(self, units: int, *, deadline: float = float("inf")) -> Iterator[None]:
        """Hold ``units``, at most the whole budget, while the block runs.

        Args:
            units: how many.
            deadline: on the clock of ``time.monotonic``; nobody waits longer.

        Raises:
            DeadlinePassed: too few were left until then.
        """
        # One waits at a time: those who want little never overtake one who wants much.
        if not self._turn.acquire(timeout=_until(deadline)):
            raise _late()
        try:
            with self._returned:
                if not self._returned.wait_for(lambda: self._left >= units, _until(deadline)):
                    raise _late()
                self._left -= units
        finally:
            self._turn.release()
        try:
            yield
        finally:
            with self._returned:
                self._left += units
                self._returned.notify()


def _until(deadline: float) -> float:
    """Seconds from now, within what a lock can wait for."""
    return min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)


def _late() -> DeadlinePassed:
    return DeadlinePassed("The deadline passed while waiting for memory to decode in.")
