"""Who may come in: the phase of the server, and how much work is accepted at once.

Requests are counted, and memory for their bodies reserved, before a body is read: 64 clients with
20 MB each must be refused at the door, not when memory is full. Runs on the event loop only: no locks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial

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


class Reservation:
    """Memory held for one body; grows with it."""

    def __init__(self, gate: "Gate") -> None:
        self._gate = gate
        self._size = 0

    def grow_to(self, size: int) -> None:
        """Hold ``size`` bytes in all; what is held already stays.

        Raises:
            Overloaded: other bodies take too much already.
        """
        if size > self._size:
            self._gate.take_body_bytes(size - self._size)
            self._size = size

    def give_back(self) -> None:
        """Hold nothing any more."""
        self._gate.body_bytes -= self._size
        self._size = 0


class Gate:
    """Admits requests within limits.

    Attributes:
        phase: set by whoever starts and stops the server.
        requests: number inside.
        body_bytes: reserved for bodies being received or decoded.
    """

    def __init__(
        self, *, max_requests: int, max_body_bytes: int, on_refusal: Callable[[str], None] = lambda _: None
    ) -> None:
        self.phase = Phase.STARTING
        self.requests = 0
        self.body_bytes = 0
        self._max_requests = max_requests
        self._max_body_bytes = max_body_bytes
        self._on_refusal = on_refusal

    def check_phase(self) -> None:
        """Raise NotReady unless work is taken."""
        if self.phase in _REFUSALS:
            raise _REFUSALS[self.phase]()

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Hold one place while a request is worked on.

        Raises:
            NotReady: no work is taken in this phase.
            Overloaded: as many requests as are accepted are being worked on.
        """
        try:
            self.check_phase()
        except NotReady as error:
            self._on_refusal(error.reason)
            raise
        if self.requests >= self._max_requests:
            raise self._overloaded("The server is working on as many requests as it accepts.", "queue_full")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @contextmanager
    def reserve(self, size: int) -> Iterator[Reservation]:
        """Hold memory for a body of ``size`` bytes, and of more as it grows.

        Raises:
            Overloaded: other bodies take too much already.
        """
        reservation = Reservation(self)
        reservation.grow_to(size)
        try:
            yield reservation
        finally:
            reservation.give_back()

    def take_body_bytes(self, size: int) -> None:
        """For ``Reservation``: count ``size`` more bytes, or raise Overloaded."""
        if self.body_bytes + size > self._max_body_bytes:
            raise self._overloaded("The server is receiving as much data as it accepts.", "upload_memory")
        self.body_bytes += size

    def _overloaded(self, detail: str, reason: str) -> Overloaded:
        self._on_refusal(reason)
        return Overloaded(detail, reason=reason, retry_after=1)
