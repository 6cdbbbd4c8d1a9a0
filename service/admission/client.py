"""What one client may do at a time and in the long run."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.admission.token_bucket import TokenBucket
from service.errors import RateLimited


class Client:
    """The use of the service by one API key, or by all anonymous clients together.

    Runs on the event loop only: no locks.
    """

    def __init__(
        self,
        *,
        max_requests: int | None,
        on_refusal: Callable[[str], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Without a rate at first.

        Args:
            max_requests: most requests at one time; None for no limit.
            on_refusal: called with the reason of each refusal.
            clock: gives nanoseconds.
        """
        self._max_requests = max_requests
        self._on_refusal = on_refusal
        self._clock = clock
        self._requests = 0
        self._bucket: TokenBucket | None = None

    def set_rate(self, per_minute: int | None, burst: int) -> None:
        """Allow ``per_minute`` images in the long run, None for any number, and ``burst`` at once.

        The rate that is set already changes nothing.
        """
        if per_minute is None:
            self._bucket = None
        elif self._bucket is None or self._bucket.per_minute != per_minute:
            self._bucket = TokenBucket(per_minute, burst, self._clock)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request while the block runs, and charge one image for it.

        Raises:
            RateLimited: the client has as many requests as it may, or sent too many images.
        """
        if self._max_requests is not None and self._requests >= self._max_requests:
            self._on_refusal("concurrency")
            raise RateLimited(
                f"{self._max_requests} requests of this client are being worked on, as many as it may have.",
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
        """Charge ``images`` in place of the one that ``admit`` charged.

        Raises:
            RateLimited: those are too many. The one stays charged: the body has been received.
        """
        if self._bucket is not None:
            self._bucket.put_back(1)
        self._charge(images, fee=1)

    def _charge(self, images: int, *, fee: int = 0) -> None:
        if self._bucket is None or not (wait := self._bucket.take(images, fee=fee)):
            return
        self._on_refusal("rate_limit")
        raise RateLimited(
            f"This client may send {self._bucket.per_minute} images a minute.",
            reason="rate_limit",
            retry_after=wait,
        )
