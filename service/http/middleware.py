"""Gives every request an id, a log line, metrics and a trace, and makes sure that it gets a response.

A response that is sent before the whole body was read also ends the connection.
``service.http.connection`` does so without destroying the response.
"""

import re
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.problems import UnhandledErrors
from service.observability.logs import log_request
from service.observability.metrics import Metrics
from service.observability.request_record import UNMATCHED, RequestRecord

if TYPE_CHECKING:  # OpenTelemetry is an extra
    from service.observability.tracing import Tracing

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U

_METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}

_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Other sites cannot embed responses as images or scripts. It does not restrict CORS requests by fetch.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Default security headers. Pages set their own."""


def new_request_id() -> str:
    """Return a ULID: 48 bits of the time in milliseconds and 80 random bits. ULIDs sort by time."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(_BASE32[number >> shift & 31] for shift in range(125, -1, -5))


class RequestMiddleware:
    """The outermost ASGI middleware.

    Sets ``request.state.request_id``, ``request.state.started`` (on the clock of ``time.monotonic``) and
    ``request.state.record`` (a ``service.observability.request_record.RequestRecord``).
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        closing: Callable[[], bool],
        tracing: "Tracing | None",
        audit: bool,
    ) -> None:
        """Wrap ``app``. While ``closing()`` is true, every response ends its connection."""
        self._app = UnhandledErrors(app)
        self._metrics = metrics
        self._closing = closing
        self._tracing = tracing
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        sent = headers.get("x-request-id", "")
        request_id = sent if _SANE_ID.fullmatch(sent) else new_request_id()
        method = scope["method"]
        record = RequestRecord(request_id, method if method in _METHODS else "_OTHER")
        record.open_inference = f"{scope['path']}/".startswith("/v2/")
        state = scope.setdefault("state", {})
        state.setdefault("started", record.started)  # the connection has set the time of the first byte
        state.update(request_id=request_id, record=record)
        unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        # HEAD is handled as GET, and the body is dropped.
        inner = {**scope, "method": "GET"} if method == "HEAD" else scope

        async def receive_watched() -> Message:
            nonlocal unread
            message = await receive()
            record.bytes_received += len(message.get("body", b""))
            unread = unread and message.get("more_body", False)  # also false after a disconnect
            return message

        async def send_completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                close = unread or self._closing()
                complete_headers(MutableHeaders(scope=message), record, close=close)
            else:
                if method == "HEAD":
                    message = {**message, "body": b""}
                record.bytes_sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(inner, receive_watched, send_completed)
        finally:
            record.duration = time.monotonic() - record.started
            record.route = getattr(inner.get("route"), "path", UNMATCHED)
            self._metrics.request(record.route, record.status, record.duration)
            if self._tracing is not None:
                self._tracing.finish(record, headers, scope["scheme"])
            log_request(record, audit=self._audit)


def complete_headers(headers: MutableHeaders, record: RequestRecord, *, close: bool) -> None:
    """Add the headers of every response. ``close`` ends the connection after it."""
    headers["X-Request-ID"] = record.request_id
    for name, value in _SECURITY.items():
        headers.setdefault(name, value)
    # Predictions must not be cached. Responses with an ETag may be, but must be revalidated.
    headers.setdefault("Cache-Control", "no-cache" if "etag" in headers else "no-store")
    if record.model is not None and record.status < 400:
        headers["X-Model"] = record.model
    if close:
        headers["Connection"] = "close"
