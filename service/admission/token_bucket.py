"""A token bucket that counts in whole numbers, so that what it tells clients to wait is exact."""

import time
from collections.abc import Callable

_SECOND = 1_000_000_000  # nanoseconds
_IMAGE = 60 * _SECOND
"""One image in the bucket's unit: with a rate of N images a minute, each nanosecond adds N units."""


class TokenBucket:
    """Allows ``burst`` images at once, and ``per_minute`` in the long run.

    The clock is monotonic: setting the system's time changes nothing.
    """

    def __init__(self, per_minute: int, burst: int, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Start full; ``clock`` gives nanoseconds."""
        self.per_minute = per_minute
        self._full = burst * _IMAGE
        self._level = self._full
        self._clock = clock
        self._filled_at = clock()

    def take(self, images: int, *, fee: int = 0) -> int:
        """Take ``images`` out; returns 0, or the seconds to wait if only the ``fee``, in images, was taken.

        More images than the bucket holds need a full one and leave it owing the rest: they can
        pass, and the rate is still kept.
        """
        now = self._clock()
        self._level = min(self._full, self._level + (now - self._filled_at) * self.per_minute)
        self._filled_at = now
        missing = min(images * _IMAGE, self._full) - self._level
        if missing > 0:
            self._level -= fee * _IMAGE
            return -(-(missing + fee * _IMAGE) // (self.per_minute * _SECOND))
        self._level -= images * _IMAGE
        return 0

    def put_back(self, images: int) -> None:
        """Undo a ``take`` of as many; the next one sees to it that the bucket holds no more than it can."""
        self._level += images * _IMAGE
