"""Limits of one client: requests at one time, and images per minute."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.admission.token_bucket import TokenBucket
from service.errors import RateLimited


class Client:
    """The requests of one API key, or of all anonymous clients together.

    Runs on the event loop only, without locks.
    """

    def __init__(
        self,
        *,
        max_requests: int | None,
        on_refusal: Callable[[str], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Start without a rate.

        Args:
            max_requests: largest number of requests at one time; None for no limit.
            on_refusal: called with the reason of each rejection.
            clock: returns nanoseconds.
        """
        self._max_requests = max_requests
        self._on_refusal = on_refusal
        self._clock = clock
        self._requests = 0
        self._bucket: TokenBucket | None = None

    def set_rate(self, per_minute: int | None, burst: int) -> None:
        """Allow ``per_minute`` images in the long run (None for no limit), and ``burst`` at once.

        Setting the current rate again has no effect.
        """
        if per_minute is None:
            self._bucket = None
        elif self._bucket is None or self._bucket.per_minute != per_minute:
            self._bucket = TokenBucket(per_minute, burst, self._clock)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request while the block runs, and charge one image for it.

        Raises:
            RateLimited: the client has too many requests at this time, or has sent too many images.
        """
        if self._max_requests is not None and self._requests >= self._max_requests:
            self._on_refusal("concurrency")
            raise RateLimited(
                f"This client has reached its limit of {self._max_requests} requests at one time.",
                reason="concurrency",
                retry_after=1,
            )
        self._charge(1)
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    def charge_batch(self, images: int) -> None:
        """Charge ``images`` instead of the one that ``admit`` charged.

        Raises:
            RateLimited: there are too many images. One stays charged, because the body was received.
        """
        if self._bucket is not None:
            self._bucket.put_back(1)
        self._charge(images, fee=1)

    def _charge(self, images: int, *, fee: int = 0) -> None:
        if self._bucket is None or not (wait := self._bucket.take(images, fee=fee)):
            return
        self._on_refusal("rate_limit")
        raise RateLimited(
            f"This client may send {self._bucket.per_minute} images per minute.",
            reason="rate_limit",
            retry_after=wait,
        )
