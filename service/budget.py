"""What threads may take together of something that there is only so much of."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """A number of units that is never exceeded; who finds too few left waits."""

    def __init__(self, units: int) -> None:
        self._left = units
        self._returned = threading.Condition()
        self._turn = threading.Lock()

    @contextmanager
    def take(self, units: int) -> Iterator[None]:
        """Hold ``units``, at most the whole budget, while the block runs."""
        # One waits at a time: those who want little never overtake one who wants much.
        with self._turn, self._returned:
            self._returned.wait_for(lambda: self._left >= units)
            self._left -= units
        try:
            yield
        finally:
            with self._returned:
                self._left += units
                self._returned.notify()
