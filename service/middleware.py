"""Around every request: an id, one log line, one measure, and an answer whatever happens.

An answer given before the body was read to its end also ends the connection. What the client is
still sending is then read for a moment, and dropped: closing at once would destroy the answer on
its way, and reading all would let the client decide how much.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics
from service.problems import problem_response
from service.record import UNMATCHED, Record

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U

_LINGER_SECONDS = 2
_LINGER_BYTES = 4_000_000

logger = logging.getLogger(__name__)


def new_request_id() -> str:
    """A ULID: 48 bits of milliseconds and 80 random ones, so that ids sort by time."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(_BASE32[number >> shift & 31] for shift in range(125, -1, -5))


class Envelope:
    """ASGI middleware; sets ``request.state.request_id``, ``.started`` (``time.monotonic``),
    ``.record`` (``service.record.Record``) and ``.key`` (name of the API key: None until one is known).
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, closing: Callable[[], bool]) -> None:
        """Wrap ``app``; while ``closing()`` every answer ends its connection."""
        self._app = app
        self._metrics = metrics
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        sent = headers.get("x-request-id", "")
        request_id = sent if _SANE_ID.fullmatch(sent) else new_request_id()
        state = scope.setdefault("state", {})
        record = Record(request_id, scope["method"])
        state.update(request_id=request_id, started=record.started, record=record, key=None)
        status = 0
        unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        end: Message | None = None

        async def receive_watched() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message.get("more_body", False)  # a disconnect has none either
            return message

        async def send_enveloped(message: Message) -> None:
            nonlocal status, end
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                if unread or self._closing():
                    headers["Connection"] = "close"
            elif unread and not message.get("more_body", False):
                # The client has its whole answer with this; the connection is closed at the end.
                message, end = {**message, "more_body": True}, {"type": "http.response.body"}
            await send(message)

        try:
            await self._app(scope, receive_watched, send_enveloped)
        except Exception as error:
            # The last resort: whatever was not foreseen is logged, and answered without details.
            if status:
                raise
            await problem_response(error, record)(scope, receive, send_enveloped)
        finally:
            seconds = time.monotonic() - record.started
            route = getattr(scope.get("route"), "path", UNMATCHED)
            self._metrics.request(route, status, seconds)
            logger.info("%s %s %s %d %.1f ms", request_id, scope["method"], route, status, seconds * 1000)
        if end is not None:
            await _linger(receive)
            await send(end)


async def _linger(receive: Receive) -> None:
    """Read and drop a bounded part of a body."""
    left = _LINGER_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
