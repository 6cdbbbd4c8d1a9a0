"""Who a request is from, what that client may do, and how much of it.

Decided from the headers alone, before any of the body is read.
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
    description="Needed where the service was started with API keys; ignored where it was not.",
    auto_error=False,  # ours says more, and looks at the header itself
)

_Documented = Annotated[str | None, Security(_SCHEME)]


class Authenticator:
    """Keys, roles, rates; its ``client`` and ``admin`` are dependencies of routes.

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

    async def client(self, request: Request, _: _Documented = None) -> Client:
        """The client that a request is from. Where there are no keys, all anonymous clients are one.

        The request's record gets the name of the key, and ``request.state.rank`` the key as its client.

        Raises:
            Unauthorized: no key, more than one, or none that is in force.
        """
        await self.refresh()
        key = self._key_of(request)
        if key is not None:
            request.state.record.key = key.name
            request.state.rank = getattr(request.state, "rank", DEFAULT_RANK)._replace(client=key.name)
        return self._client(key)

    async def admin(self, request: Request, _: _Documented = None) -> None:
        """Let in those with a key of the role ``admin`` only, and nobody where there are no keys.

        Raises:
            Unauthorized: as ``client``.
            Forbidden: the key has not the role, or there are no keys.
        """
        await self.refresh()
        key = self._key_of(request)
        if key is None:
            raise self._forbidden("This needs a key with the role admin, and the server has no keys.")
        request.state.record.key = key.name
        if not key.admin:
            raise self._forbidden("This needs a key with the role admin.")

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
