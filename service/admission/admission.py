"""Admission: the phase of the server, and how much work is accepted at once.

Requests and the bytes of their bodies are counted here and nowhere else. A body counts as far as it has
arrived, whatever size its client announced. A request takes its place when its body is whole. So a client
that sends slowly holds little. When there is no room for more bytes, the slowest upload is refused first.
The address of a client plays no part, because a proxy's many users have one.

Runs on the event loop only: no locks.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial

from service.admission.client import Client
from service.errors import NotReady, Overloaded, ShuttingDown


class Phase(StrEnum):
    """Where the server is in its life; it only ever moves down this list."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"  # readiness fails, work is still taken: load balancers need time to notice
    CLOSED = "closed"  # no new work; what was accepted is finished
    FAILED = "failed"


_REFUSALS: dict[Phase, Callable[[], NotReady]] = {
    Phase.STARTING: partial(NotReady, "The model is being loaded.", reason="starting", retry_after=2),
    Phase.CLOSED: ShuttingDown,
    Phase.FAILED: partial(NotReady, "The server could not load its model.", reason="failed", retry_after=60),
}


_HEAD_START = 65_536  # bytes that an upload counts as having sent: one that has just begun is not slow


def upload_rate(size: int, began: float) -> float:
    """How fast a body comes of which ``size`` bytes have arrived since ``began``, on ``time.monotonic``."""
    return (size + _HEAD_START) / max(time.monotonic() - began, 1e-6)


class Reservation:
    """Memory for one body: ``size`` bytes, as many as have arrived."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.size = 0
        self._began = time.monotonic()
        self._stop: Callable[[], None] | None = None
        self._refusal: Overloaded | None = None

    @property
    def rate(self) -> float:
        """Bytes per second so far."""
        return upload_rate(self.size, self._began)

    @contextmanager
    def receiving(self, stop: Callable[[], None]) -> Iterator[None]:
        """Receive a body in the block; while it runs, the admission may call ``stop`` to end it."""
        self._stop = stop
        self._admission.uploads.add(self)
        try:
            yield
        finally:
            self._admission.uploads.discard(self)

    def grow_to(self, size: int) -> None:
        """Hold ``size`` bytes in all; what is held already stays.

        Raises:
            Overloaded: there is no room, and no slower upload to make some; or this one had to make room.
        """
        self.check()
        if size > self.size:
            self._admission.take_body_bytes(size - self.size, self)
            self.size = size

    def check(self) -> None:
        """Raise Overloaded if this upload had to make room for another."""
        if self._refusal is not None:
            raise self._refusal

    def evict(self, refusal: Overloaded) -> None:
        """For the admission: end the upload with ``refusal`` and free its memory."""
        self._refusal = refusal
        self._admission.uploads.discard(self)
        self._admission.body_bytes -= self.size
        self.size = 0
        if self._stop is not None:
            self._stop()

    def release(self, size: int | None = None) -> None:
        """Free ``size`` bytes, or all."""
        size = self.size if size is None else size
        self._admission.body_bytes -= size
        self.size -= size


class Admission:
    """Admits requests within limits.

    Attributes:
        phase: set by whoever starts and stops the server.
        requests: being worked on, their bodies whole.
        body_bytes: of bodies being received or decoded, as far as they have arrived.
        uploads: bodies being received.
    """

    def __init__(
        self, *, max_requests: int, max_body_bytes: int, on_refusal: Callable[[str], None] = lambda _: None
    ) -> None:
        self.phase = Phase.STARTING
        self.requests = 0
        self.body_bytes = 0
        self.uploads: set[Reservation] = set()
        self._max_requests = max_requests
        self._max_body_bytes = max_body_bytes
        self._on_refusal = on_refusal

    def check_phase(self) -> None:
        """Raise NotReady unless work is taken."""
        if self.phase in _REFUSALS:
            raise _REFUSALS[self.phase]()

    @contextmanager
    def admit(self, client: Client) -> Iterator[Reservation]:
        """Admit a request of ``client``, before its body is received.

        The block holds one of the client's requests, and memory for the body as it arrives.

        Raises:
            NotReady: no work is accepted in this phase.
            Overloaded: as many requests as are accepted are being worked on.
            RateLimited: the client's own limits.
        """
        # First what costs the client nothing of its rate.
        try:
            self.check_phase()
        except NotReady as error:
            self._on_refusal(error.reason)
            raise
        self._check_places()
        with client.admit():
            reservation = Reservation(self)
            try:
                yield reservation
            finally:
                reservation.release()

    @contextmanager
    def hold_place(self) -> Iterator[None]:
        """Count a request whose whole body has arrived, while it is worked on.

        Raises:
            Overloaded: as many requests as are accepted are being worked on.
        """
        self._check_places()
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def take_body_bytes(self, size: int, taker: Reservation) -> None:
        """For ``Reservation``: count ``size`` more bytes, or raise Overloaded."""
        while self.body_bytes + size > self._max_body_bytes:
            holders = (upload for upload in self.uploads if upload.size or upload is taker)
            slowest = min(holders, key=lambda upload: upload.rate, default=None)
            refusal = self._overloaded("The server is receiving as much data as it accepts.", "upload_memory")
            if slowest is None or slowest is taker:
                raise refusal
            slowest.evict(refusal)
        self.body_bytes += size

    def _check_places(self) -> None:
        if self.requests >= self._max_requests:
            raise self._overloaded("The server is working on as many requests as it accepts.", "queue_full")

    def _overloaded(self, detail: str, reason: str) -> Overloaded:
        self._on_refusal(reason)
        return Overloaded(detail, reason=reason, retry_after=1)
