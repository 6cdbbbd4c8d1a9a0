"""Admission: the phase of the server, and limits on the work that it accepts at once.

This module counts the requests and the bytes of their bodies. A body counts with the bytes that have
arrived, not with its announced size. A request takes a place only when its whole body has arrived, so that
slow clients hold little. When there is no room for more bytes, the slowest transfer ends first. Client
addresses do not matter here, because all users of a proxy share one.

The overlays of a batch count until they are sent. They end no upload, and leave half of the memory to
uploads. A client that does not read them makes room for those of others.

Runs on the event loop only, without locks.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial

from service.admission.client import Client
from service.errors import NotReady, Overloaded, ShuttingDown


class Phase(StrEnum):
    """The phase of the server's life. It moves down this list only."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"  # not ready, but still accepts work, because load balancers notice late
    CLOSED = "closed"  # accepts no work, and finishes what it has accepted
    FAILED = "failed"


_REFUSALS: dict[Phase, Callable[[], NotReady]] = {
    Phase.STARTING: partial(NotReady, "The model is being loaded.", reason="starting", retry_after=2),
    Phase.CLOSED: ShuttingDown,
    Phase.FAILED: partial(NotReady, "The server could not load its model.", reason="failed", retry_after=60),
}


_READING_GRACE = 5.0  # seconds in which a response that is read is not ended for another
_UNREAD_GRACE = 1.0  # seconds without any reading in which it is not

_HEAD_START = 65_536  # bytes added to every upload, so that one that has just begun does not count as slow


def upload_rate(size: int, began: float) -> float:
    """Return the rate of an upload, in bytes per second, whose first ``size`` bytes came since ``began``.

    ``began`` is on the clock of ``time.monotonic``.
    """
    return (size + _HEAD_START) / max(time.monotonic() - began, 1e-6)


class Reservation:
    """The memory that one body takes: ``size`` bytes, which have arrived or are to be sent.

    Attributes:
        size: bytes in memory.
        moved: bytes that the client has sent, or that were sent to it, in the transfer.
        is_result: whether it holds results, which give way to bodies and to other results.
    """

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.size = 0
        self.moved = 0
        self.is_result = False
        self._began = self._advanced = time.monotonic()
        self._stop: Callable[[], None] | None = None
        self._refusal: Overloaded | None = None

    @property
    def rate(self) -> float:
        """Bytes per second so far; see ``upload_rate``."""
        return upload_rate(self.moved, self._began)

    @contextmanager
    def transfer(self, stop: Callable[[], None]) -> Iterator[None]:
        """Receive or send the body while the block runs. ``Admission`` may call ``stop`` to end it."""
        self._stop = stop
        self.moved, self._began = 0, time.monotonic()
        self._advanced = self._began
        self._admission.transfers.add(self)
        try:
            yield
        finally:
            self._admission.transfers.discard(self)

    def grow_to(self, size: int) -> None:
        """Reserve ``size`` bytes of a body in total. The reservation never shrinks here.

        Raises:
            Overloaded: there is no room and no slower transfer to evict, or this one was evicted.
        """
        self.check()
        if size > self.size:
            self._admission.take_body_bytes(size - self.size, self)
            self.size = self.moved = size

    def add_result(self, size: int) -> bool:
        """Reserve ``size`` more bytes for a result that is sent later. Return False if there is no room."""
        if not self._admission.take_result_bytes(size):
            return False
        self.size += size
        self.is_result = True
        return True

    def advance(self, size: int) -> None:
        """Note that ``size`` more bytes were sent, because the client has read those before."""
        self.moved += size
        self._advanced = time.monotonic()

    @property
    def lasts(self) -> bool:
        """Whether the transfer takes longer than a client at an ordinary rate needs."""
        now = time.monotonic()
        return now - self._began > _READING_GRACE or now - self._advanced > _UNREAD_GRACE

    def check(self) -> None:
        """Raise Overloaded if this transfer was evicted to make room for another."""
        if self._refusal is not None:
            raise self._refusal

    def evict(self, refusal: Overloaded) -> None:
        """End the transfer with ``refusal``, and free its memory. Called by ``Admission``."""
        self._refusal = refusal
        self._admission.transfers.discard(self)
        self._admission.body_bytes -= self.size
        self.size = 0
        if self._stop is not None:
            self._stop()

    def release(self, size: int | None = None) -> None:
        """Free ``size`` bytes, or all if it is None. The size of an evicted reservation is 0."""
        size = self.size if size is None else min(size, self.size)
        self._admission.body_bytes -= size
        self.size -= size


class Admission:
    """Admits requests within limits.

    Attributes:
        phase: set by the code that starts and stops the server.
        requests: number of requests in progress whose bodies are complete.
        body_bytes: bytes of the bodies being received, decoded or sent, as far as they are in memory.
        transfers: the reservations of the bodies being received or sent.
    """

    def __init__(
        self, *, max_requests: int, max_body_bytes: int, on_refusal: Callable[[str], None] = lambda _: None
    ) -> None:
        self.phase = Phase.STARTING
        self.requests = 0
        self.body_bytes = 0
        self.transfers: set[Reservation] = set()
        self._max_requests = max_requests
        self._max_body_bytes = max_body_bytes
        self._on_refusal = on_refusal

    def check_phase(self) -> None:
        """Raise NotReady if no work is accepted in this phase."""
        if self.phase in _REFUSALS:
            raise _REFUSALS[self.phase]()

    @contextmanager
    def admit(self, client: Client) -> Iterator[Reservation]:
        """Admit a request of ``client``, before its body is received.

        While the block runs, the request counts against the client's limit, and its body has a reservation.

        Raises:
            NotReady: no work is accepted in this phase.
            Overloaded: the limit of requests in progress is reached.
            RateLimited: the client has reached its own limits.
        """
        # Checked before the client's limits, so that these rejections do not count against its rate.
        try:
            self.check_phase()
        except NotReady as error:
            self._on_refusal(error.reason)
            raise
        self._check_places()
        with client.admit(), self.reserve() as reservation:
            yield reservation

    @contextmanager
    def reserve(self) -> Iterator[Reservation]:
        """Yield an empty reservation. What it holds is freed after the block."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            reservation.release()

    @contextmanager
    def hold_place(self) -> Iterator[None]:
        """Count a request whose whole body has arrived, while the block runs.

        Raises:
            Overloaded: the limit of requests in progress is reached.
        """
        self._check_places()
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def take_body_bytes(self, size: int, taker: Reservation) -> None:
        """Count ``size`` more bytes, or raise Overloaded. Called by ``Reservation``."""
        while self.body_bytes + size > self._max_body_bytes:
            holders = (upload for upload in self.transfers if upload.size or upload is taker)
            slowest = min(holders, key=lambda held: (not held.is_result, held.rate), default=None)
            refusal = self._overloaded("The server has reached its limit of incoming data.", "upload_memory")
            if slowest is None or slowest is taker:
                raise refusal
            slowest.evict(refusal)
        self.body_bytes += size

    def take_result_bytes(self, size: int) -> bool:
        """Count ``size`` more bytes, if half of the memory has room. Called by ``Reservation``.

        Responses that clients have read slowly for a while make room.
        """
        excess = self.body_bytes + size - self._max_body_bytes // 2
        unread = [held for held in self.transfers if held.is_result and held.lasts]
        if excess > sum(held.size for held in unread):
            return False
        for held in sorted(unread, key=lambda held: held.rate):
            if excess <= 0:
                break
            excess -= held.size
            held.evict(Overloaded("The response was read too slowly.", reason="unread", retry_after=1))
        self.body_bytes += size
        return True

    def _check_places(self) -> None:
        if self.requests >= self._max_requests:
            raise self._overloaded("The server has reached its limit of requests in progress.", "queue_full")

    def _overloaded(self, detail: str, reason: str) -> Overloaded:
        self._on_refusal(reason)
        return Overloaded(detail, reason=reason, retry_after=1)
