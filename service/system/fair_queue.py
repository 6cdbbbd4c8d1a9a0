"""Fair order of waiting requests, images to decode and images to infer.

Clients take turns, whatever number of connections and requests each has. A client is an API key or, without
keys, an address. If one client sends many images, an image of another client waits for one of them at a time.
Without keys, all users of one proxy are one client. Among the items of one client, the connection with the
longest pause comes first, so that occasional requests overtake a steady stream.

Nothing is rejected here, and no place stays free while something waits.
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

_LONGEST_REST = 0.1  # seconds; longer pauses count as this, which limits how long new connections overtake
_REMEMBERED = 1000  # clients; above it, those that have nothing in the queue and no turn ahead are forgotten


class Rank(NamedTuple):
    """The client of a request, and when its connection's pause began, on the clock of ``time.monotonic``."""

    client: Hashable
    rested_since: float


def rank_of(client: Hashable, last: float) -> Rank:
    """Return the rank of a request that begins now. The previous one of its connection began at ``last``."""
    return Rank(client, max(last, time.monotonic() - _LONGEST_REST))


DEFAULT_RANK = Rank(None, 0.0)
"""The rank of items without a client. They keep their order."""


def client_of(address: str | None) -> str | None:
    """Return the client at ``address``. An IPv6 network of 64 bits is one client: one machine may own it."""
    if address is None or ":" not in address:
        return address
    found = ipaddress.IPv6Address(address)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return found.packed[:8].hex()


class FairQueue(Generic[Item]):
    """A queue whose ``pop`` takes an item of the client whose turn it is.

    Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) with items of equal cost: each client has a
    number, which each of its items increases by one, and the waiting client with the lowest number is next. A
    client that had nothing in the queue starts at the number that the others have reached, so pauses earn no
    credit. Not thread-safe.
    """

    def __init__(self) -> None:
        self._waiting: dict[Hashable, list[tuple[float, int, Item]]] = {}  # a heap for each client
        self._numbers: dict[Hashable, float] = {}
        self._reached = 0.0  # the number of the client that had the latest turn
        self._arrivals = itertools.count()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        """Iterate over all items, in no particular order."""
        return (item for line in self._waiting.values() for _, _, item in line)

    def push(self, item: Item, rank: Rank) -> None:
        """Add one item."""
        line = self._waiting.setdefault(rank.client, [])
        if not line:
            # Half a turn, not none: a stream of new clients then advances the number that is reached, and
            # cannot overtake a waiting client for ever.
            begin = self._reached + 0.5
            self._numbers[rank.client] = max(begin, self._numbers.get(rank.client, begin))
        heapq.heappush(line, (rank.rested_since, next(self._arrivals), item))
        self._length += 1

    def pop(self) -> Item:
        """Take the next item.

        Raises:
            IndexError: there is none.
        """
        return self.pop_turn(1)[0]

    def pop_turn(self, most: int) -> list[Item]:
        """Take the next item, and up to ``most`` in all of its client, which pays for each with a turn.

        Raises:
            IndexError: there is none.
        """
        if not self._waiting:
            raise IndexError("the queue is empty")
        client = min(self._waiting, key=self._numbers.__getitem__)
        line = self._waiting[client]
        items = [heapq.heappop(line)[-1] for _ in range(min(most, len(line)))]
        self._length -= len(items)
        self._reached = self._numbers[client]
        self._numbers[client] += len(items)
        if not line:
            del self._waiting[client]
        if len(self._numbers) > _REMEMBERED + 2 * len(self._waiting):
            self._numbers = {
                other: number
                for other, number in self._numbers.items()
                if other in self._waiting or number > self._reached
            }
        return items

    def remove(self, item: Item, rank: Rank) -> None:
        """Remove one item. The number of its client does not change.

        Raises:
            ValueError: the item is not in the queue.
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
    """A semaphore whose places are given in fair order. Runs on the event loop only."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._line: FairQueue[asyncio.Future[None]] = FairQueue()

    async def acquire(self, rank: Rank) -> None:
        """Wait for a place, and take it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.push(turn, rank)
        self._give()
        try:
            await turn
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._line.remove(turn, rank)
            if turn.done() and not turn.cancelled():  # the place was given before the cancellation
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
