"""Who a request is from, what that client may do, and how much of it.

Decided from the headers alone, before any of the body is read.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Security
from fastapi.security import APIKeyHeader
from starlette.requests import Request

from service.admission.api_keys import Key, KeyRing
from service.admission.token_bucket import TokenBucket
from service.errors import Forbidden, RateLimited, Unauthorized
from service.fairness import ALONE
from service.observability.metrics import Metrics
from service.settings import Settings, is_loopback

logger = logging.getLogger(__name__)

_HEADER = "X-API-Key"
_REASONS = ("unauthorized", "forbidden", "rate_limit", "concurrency")

_SCHEME = APIKeyHeader(
    name=_HEADER,
    scheme_name="ApiKey",
    description="Needed where the service was started with API keys; ignored where it was not.",
    auto_error=False,  # ours says more, and looks at the header itself
)

_Documented = Annotated[str | None, Security(_SCHEME)]


class Client:
    """One key's, or all anonymous clients', use of the service.

    Attributes:
        bucket: None where there is no rate.
        inside: requests being worked on.
    """

    def __init__(self) -> None:
        self.bucket: TokenBucket | None = None
        self.inside = 0


class Access:
    """Keys, roles, rates; its ``key`` and ``admin`` are dependencies of routes.

    Runs on the event loop only: no locks.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """Read the key file, if there is one; ``clock`` gives nanoseconds.

        Raises:
            SettingsError: the file cannot be used, or has no key.
        """
        self._settings = settings
        self._refused = metrics.refused
        self._clock = clock
        path = settings.api_keys_file
        self._ring = KeyRing(path, lambda: clock() / 1e9) if path is not None else None
        self._clients: dict[str | None, Client] = {}  # by the key's name; all without a key share None's
        self._announce()
        for reason in _REASONS:  # from 0 on: a rate needs a sample before the first one
            metrics.rejections.labels(reason)
        metrics.keys.set_function(lambda: float(len(self._ring.keys) if self._ring else 0))

    async def refresh(self) -> None:
        """Read the key file again if that is due."""
        if self._ring is not None:
            await self._ring.refresh()

    async def reload(self) -> None:
        """Read the key file now; the log says what is wrong with it."""
        if self._ring is not None:
            await self._ring.reload()

    async def key(self, request: Request, _: _Documented = None) -> None:
        """Let in those with a key, or everyone where there are no keys.

        Sets ``request.state.key``, the key's name or None, ``request.state.client``, and
        ``request.state.rank``, whose client is the key; without keys it is what the connection found.

        Raises:
            Unauthorized: no key, more than one, or none that is in force.
        """
        await self.refresh()
        key = self._key_of(request)
        request.state.key = key.name if key is not None else None
        request.state.client = self._client(key)
        rank = getattr(request.state, "rank", ALONE)
        request.state.rank = rank if key is None else rank._replace(client=key.name)

    async def admin(self, request: Request, _: _Documented = None) -> None:
        """Let in those with a key of the role ``admin`` only, and nobody where there are no keys.

        Raises:
            Unauthorized: as ``key``.
            Forbidden: the key has not the role, or there are no keys.
        """
        await self.refresh()
        key = self._key_of(request)
        if key is None:
            raise self._forbidden("This needs a key with the role admin, and the server has no keys.")
        request.state.key = key.name
        if not key.admin:
            raise self._forbidden("This needs a key with the role admin.")

    @contextmanager
    def admit(self, client: Client) -> Iterator[None]:
        """Hold one of the client's places while its request is worked on, and charge one image.

        Raises:
            RateLimited: the client has all its places taken, or sent too many images.
        """
        limit = self._settings.max_concurrent_per_key
        if limit is not None and client.inside >= limit:
            self._refused("concurrency")
            raise RateLimited(
                f"{limit} requests of this client are being worked on, as many as it may have.",
                reason="concurrency",
                retry_after=1,
            )
        self._charge(client, 1)
        client.inside += 1
        try:
            yield
        finally:
            client.inside -= 1

    def recharge(self, client: Client, images: int) -> None:
        """Charge for ``images`` in place of the one that ``admit`` charged.

        Raises:
            RateLimited: those are too many. The one stays charged: the body has been received.
        """
        if client.bucket is not None:
            client.bucket.put_back(1)
        self._charge(client, images, fee=1)

    def _announce(self) -> None:
        """Say in the log who is let in."""
        if self._ring is not None:
            logger.info("API keys in force: %s", ", ".join(key.name for key in self._ring.keys))
        elif is_loopback(self._settings.host):
            logger.info("There are no API keys: everyone on this machine is let in.")
        else:
            logger.warning(
                "There are no API keys: everyone who reaches %s is let in (DERMASERVE_ALLOW_ANONYMOUS).",
                self._settings.host,
            )

    def _key_of(self, request: Request) -> Key | None:
        if self._ring is None:
            return None
        sent = request.headers.getlist(_HEADER)
        # Of several a proxy may have looked at one and this service at another.
        key = self._ring.find(sent[0]) if len(sent) == 1 else None
        if key is None:
            self._refused("unauthorized")
            raise Unauthorized(
                f"Send one header {_HEADER} with a key." if len(sent) != 1 else "The key is not in force."
            )
        return key

    def _client(self, key: Key | None) -> Client:
        name = key.name if key is not None else None
        rate = (key.rate if key is not None else None) or self._settings.rate_limit
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = Client()
        if rate is None:
            client.bucket = None
        elif client.bucket is None or client.bucket.per_minute != rate:
            client.bucket = TokenBucket(rate, self._settings.rate_burst, self._clock)
        return client

    def _charge(self, client: Client, images: int, *, fee: int = 0) -> None:
        if client.bucket is None or not (wait := client.bucket.take(images, fee=fee)):
            return
        self._refused("rate_limit")
        raise RateLimited(
            f"This client may send {client.bucket.per_minute} images a minute.",
            reason="rate_limit",
            retry_after=wait,
        )

    def _forbidden(self, detail: str) -> Forbidden:
        self._refused("forbidden")
        return Forbidden(detail)
