"""A token bucket. It counts in integers, so that the waits it reports are exact."""

import time
from collections.abc import Callable

_SECOND = 1_000_000_000  # nanoseconds
_IMAGE = 60 * _SECOND
"""One image in the bucket's unit. At a rate of N images per minute, each nanosecond adds N units."""


class TokenBucket:
    """Allows ``burst`` images at once, and ``per_minute`` in the long run.

    The clock is monotonic, so changes of the system time have no effect.
    """

    def __init__(self, per_minute: int, burst: int, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Start with a full bucket. ``clock`` returns nanoseconds."""
        self.per_minute = per_minute
        self._full = burst * _IMAGE
        self._level = self._full
        self._clock = clock
        self._filled_at = clock()

    def take(self, images: int, *, fee: int = 0) -> int:
        """Take ``images`` and return 0. If too few are left, take ``fee`` and return the seconds to wait.

        A request for more images than ``burst`` needs a full bucket and makes the level negative. So large
        requests are possible, and the rate is still kept.
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
        """Undo a ``take`` of ``images``. The next ``take`` limits the level to ``burst``."""
        self._level += images * _IMAGE
