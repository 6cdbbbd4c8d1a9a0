"""Spreads the starts of requests over the iterations of the event loop."""

import asyncio
from collections.abc import Callable

from service.system.fair_queue import FairQueue, Rank


class Turns:
    """Starts one request in each iteration of the event loop, in the order of ``service.system.fair_queue``.

    Without it, a client with many connections gets one request on each of them answered in every iteration.
    A single request of another client takes about ten iterations.
    """

    def __init__(self) -> None:
        self._line: FairQueue[Callable[[], None]] = FairQueue()
        self._taken = False  # whether this iteration has started a request

    def take(self, start: Callable[[], None], rank: Rank) -> None:
        """Call ``start``, which starts a request: now if no other has started, else in its turn."""
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
