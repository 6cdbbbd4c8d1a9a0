"""Authenticates requests by API key and checks their roles.

The headers suffice, so this happens before the body is read.
"""

import logging
import time
from collections.abc import Callable
from typing import Annotated

from fastapi import Security
from fastapi.security import APIKeyHeader
from starlette.requests import Request

from service.admission.api_keys import Key, KeyRing
from service.admission.client import Client
from service.errors import Forbidden, Unauthorized
from service.observability.metrics import Metrics
from service.settings import Settings, is_loopback
from service.system.fair_queue import DEFAULT_RANK

logger = logging.getLogger(__name__)

_HEADER = "X-API-Key"
_REASONS = ("unauthorized", "forbidden", "rate_limit", "concurrency")

_SCHEME = APIKeyHeader(
    name=_HEADER,
    scheme_name="ApiKey",
    description="Required if the service was started with API keys; otherwise ignored.",
    auto_error=False,  # Authenticator reads the header itself, and its problems say more
)

_Documented = Annotated[str | None, Security(_SCHEME)]


class Authenticator:
    """Knows the keys and the clients. Its ``client`` and ``admin`` are dependencies of routes.

    Runs on the event loop only, without locks.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """Read the key file if one is set. ``clock`` returns nanoseconds.

        Raises:
            SettingsError: the file cannot be used or has no key.
        """
        self._settings = settings
        self._refused = metrics.refused
        self._clock = clock
        path = settings.api_keys_file
        self._ring = KeyRing(path, lambda: clock() / 1e9) if path is not None else None
        self._clients: dict[str | None, Client] = {}  # by name of the key; None: all anonymous clients
        self._announce()
        for reason in _REASONS:  # start at 0, because a rate needs a sample before the first rejection
            metrics.rejections.labels(reason)
        metrics.keys.set_function(lambda: float(len(self._ring.keys) if self._ring else 0))

    async def refresh(self) -> None:
        """Read the key file again if the last read is a second old."""
        if self._ring is not None:
            await self._ring.refresh()

    async def reload(self) -> None:
        """Read the key file now, and log its problems."""
        if self._ring is not None:
            await self._ring.reload()

    async def client(self, request: Request, _: _Documented = None) -> Client:
        """Return the client that sent a request. Without keys, all clients are one anonymous client.

        Stores the name of the key in the request's record and in ``request.state.rank``.

        Raises:
            Unauthorized: the request has no key, several keys, or one that is not valid.
        """
        await self.refresh()
        key = self._key_of(request)
        if key is not None:
            request.state.record.key = key.name
            request.state.rank = getattr(request.state, "rank", DEFAULT_RANK)._replace(client=key.name)
        return self._client(key)

    async def admin(self, request: Request, _: _Documented = None) -> None:
        """Require a key with the role ``admin``. If the server has no keys, every request is rejected.

        Raises:
            Unauthorized: as in ``client``.
            Forbidden: the key lacks the role, or the server has no keys.
        """
        await self.refresh()
        key = self._key_of(request)
        if key is None:
            raise self._forbidden("This requires a key with the role admin, but the server has no keys.")
        request.state.record.key = key.name
        if not key.admin:
            raise self._forbidden("This requires a key with the role admin.")

    def _announce(self) -> None:
        """Log whose requests are accepted."""
        if self._ring is not None:
            logger.info("Valid API keys: %s", ", ".join(key.name for key in self._ring.keys))
        elif is_loopback(self._settings.host):
            logger.info("No API keys are set. Requests from this machine need no key.")
        else:
            logger.warning(
                "No API keys are set. Anyone who can reach %s needs no key (DERMASERVE_ALLOW_ANONYMOUS).",
                self._settings.host,
            )

    def _key_of(self, request: Request) -> Key | None:
        if self._ring is None:
            return None
        sent = request.headers.getlist(_HEADER)
        # With several headers, a proxy and this service might check different ones.
        key = self._ring.find(sent[0]) if len(sent) == 1 else None
        if key is None:
            self._refused("unauthorized")
            one = f"Send exactly one {_HEADER} header with a key."
            raise Unauthorized(one if len(sent) != 1 else "The key is not valid.")
        return key

    def _client(self, key: Key | None) -> Client:
        name = key.name if key is not None else None
        rate = (key.rate if key is not None else None) or self._settings.rate_limit
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = Client(
                max_requests=self._settings.max_concurrent_per_key,
                on_refusal=self._refused,
                clock=self._clock,
            )
        client.set_rate(rate, self._settings.rate_burst)
        return client

    def _forbidden(self, detail: str) -> Forbidden:
        self._refused("forbidden")
        return Forbidden(detail)
