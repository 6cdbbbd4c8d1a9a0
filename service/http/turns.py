"""The beginnings of requests, spread over the iterations of the event loop."""

import asyncio
from collections.abc import Callable

from service.system.fair_queue import FairQueue, Rank


class Turns:
    """Starts one request in each iteration of the event loop, in the order of ``service.system.fair_queue``.

    Without it, a client with many connections has a request answered on each of them in every iteration, and
    a single request of someone else needs some ten iterations.
    """

    def __init__(self) -> None:
        self._line: FairQueue[Callable[[], None]] = FairQueue()
        self._taken = False  # the turn of this iteration

    def take(self, start: Callable[[], None], rank: Rank) -> None:
        """Call ``start``, which begins a request, now if it is alone, else in turn."""
        if self._taken:
            self._line.push(start, rank)
        else:
            self._taken = True
            asyncio.get_running_loop().call_soon(self._next)
            start()

    def _next(self) -> None:
        self._taken = bool(self._line)
        if self._line:
            asyncio.get_running_loop().call_soon(self._next)
            self._line.pop()()
