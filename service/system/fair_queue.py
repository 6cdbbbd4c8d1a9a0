"""Who comes next where many wait: the order of requests, of images to decode and of images to infer.

Clients take turns, however many connections and requests each of them has. A client is an API key or, without
keys, an address. So one that floods the service waits for itself, and someone else's image waits for one of
its images at a time. All behind one proxy without keys are one client. Within a client, the connection that
has rested the longest comes first: who asks now and then overtakes those who ask without a pause.

Nobody is refused here, and no place stays empty. An order costs nothing where nobody waits.
"""

import asyncio
import heapq
import ipaddress
import itertools
import time
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")

# Seconds that count: for as long, new connections may overtake a kept one.
_LONGEST_REST = 0.1
_REMEMBERED = 1000  # clients; beyond it those are forgotten who wait for nothing and are owed nothing


class Rank(NamedTuple):
    """Whose a request is, and since when its connection had rested, on the clock of ``time.monotonic``."""

    client: Hashable
    rested_since: float


def rank_of(client: Hashable, last: float) -> Rank:
    """The rank of a request that begins now; the one before it on the same connection began at ``last``."""
    return Rank(client, max(last, time.monotonic() - _LONGEST_REST))


DEFAULT_RANK = Rank(None, 0.0)
"""Items of this rank are one client's and keep their order."""


def client_of(address: str | None) -> str | None:
    """The client at ``address``. Of IPv6, a network of 64 bits is one: a single machine may have it all."""
    if address is None or ":" not in address:
        return address
    found = ipaddress.IPv6Address(address)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return found.packed[:8].hex()


class FairQueue(Generic[Item]):
    """A queue of which ``pop`` takes the item of the client whose turn it is (start-time fair queueing).

    Each client has a number, which its items advance by one. The lowest of those who wait is next. A client
    that comes anew begins where the others are: rest is not saved up. Not thread-safe.
    """

    def __init__(self) -> None:
        self._waiting: dict[Hashable, list[tuple[float, int, Item]]] = {}  # a heap for each client
        self._numbers: dict[Hashable, float] = {}
        self._reached = 0.0  # the number of the latest turn
        self._arrivals = itertools.count()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        """All items, in no order."""
        return (item for line in self._waiting.values() for _, _, item in line)

    def push(self, item: Item, rank: Rank) -> None:
        """Add one item."""
        line = self._waiting.setdefault(rank.client, [])
        if not line:
            # Before the next item of who has just had a turn; but newcomers push on what is reached, else
            # one after the other could overtake someone for ever.
            begin = self._reached + 0.5
            self._numbers[rank.client] = max(begin, self._numbers.get(rank.client, begin))
        heapq.heappush(line, (rank.rested_since, next(self._arrivals), item))
        self._length += 1

    def pop(self) -> Item:
        """Take the next item.

        Raises:
            IndexError: there is none.
        """
        if not self._waiting:
            raise IndexError("the queue is empty")
        client = min(self._waiting, key=self._numbers.__getitem__)
        line = self._waiting[client]
        item = heapq.heappop(line)[-1]
        self._length -= 1
        self._reached = self._numbers[client]
        self._numbers[client] += 1
        if not line:
            del self._waiting[client]
        if len(self._numbers) > _REMEMBERED + 2 * len(self._waiting):
            self._numbers = {
                other: number
                for other, number in self._numbers.items()
                if other in self._waiting or number > self._reached
            }
        return item

    def remove(self, item: Item, rank: Rank) -> None:
        """Take one item out of turn; its client's number stays.

        Raises:
            ValueError: it is not there.
        """
        line = self._waiting.get(rank.client, [])
        at = next((at for at, (*_, found) in enumerate(line) if found is item), None)
        if at is None:
            raise ValueError("the item is not in the queue")
        line[at] = line[-1]
        line.pop()
        heapq.heapify(line)
        self._length -= 1
        if not line:
            del self._waiting[rank.client]


class FairSemaphore:
    """A number of places, given in turn; on the event loop only."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._line: FairQueue[asyncio.Future[None]] = FairQueue()

    async def acquire(self, rank: Rank) -> None:
        """Take a place, when it is free and it is this one's turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.push(turn, rank)
        self._give()
        try:
            await turn
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._line.remove(turn, rank)
            if turn.done() and not turn.cancelled():  # it had been given, and nobody was told yet
                self.release()
            raise

    def release(self) -> None:
        """Give a place back."""
        self._free += 1
        self._give()

    @asynccontextmanager
    async def place(self, rank: Rank) -> AsyncIterator[None]:
        """Hold a place while the block runs."""
        await self.acquire(rank)
        try:
            yield
        finally:
            self.release()

    def _give(self) -> None:
        while self._free and self._line:
            turn = self._line.pop()
            if not turn.done():
                turn.set_result(None)
                self._free -= 1
