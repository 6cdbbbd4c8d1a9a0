"""The order in which the requests of many connections begin."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable

_LONGEST_REST = 1.0  # seconds that count: beyond it a connection gains no more
_NEVER = float("-inf")


class Turns:
    """Starts one request in each iteration of the event loop.

    Without it, a client with many connections has a request answered on each of them in every iteration, and
    a single request of someone else needs some ten iterations. The connection that has rested the longest
    comes first, so a client that asks now and then overtakes those that ask without a pause. Nobody waits for
    ever: a request comes before all requests of connections that have begun one more than a second after it.
    """

    def __init__(self) -> None:
        self._line: list[tuple[float, int, Callable[[], None]]] = []
        self._arrivals = itertools.count()
        self._taken = False  # the turn of this iteration

    def take(self, start: Callable[[], None], last: float = _NEVER) -> float:
        """Call ``start`` now if it is alone, else in turn.

        Args:
            start: begins a request.
            last: what this returned for the request before it on the same connection, if there was one.

        Returns:
            The time, on the clock of ``time.monotonic``.
        """
        now = time.monotonic()
        if self._taken:
            rested_since = max(last, now - _LONGEST_REST)
            heapq.heappush(self._line, (rested_since, next(self._arrivals), start))
        else:
            self._taken = True
            asyncio.get_running_loop().call_soon(self._next)
            start()
        return now

    def _next(self) -> None:
        self._taken = bool(self._line)
        if self._line:
            asyncio.get_running_loop().call_soon(self._next)
            heapq.heappop(self._line)[-1]()
