"""Around every request: an id, one log line, one measure, one trace, and an answer whatever happens.

An answer given before the body was read to its end also ends the connection;
``service.http.connection`` does so without destroying the answer.
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
    # Against embedding as a picture or script; pages that CORS lets in read by fetch, which it spares.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Of answers that do not say otherwise, as the pages do."""


def new_request_id() -> str:
    """A ULID: 48 bits of milliseconds and 80 random ones, so that ids sort by time."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(_BASE32[number >> shift & 31] for shift in range(125, -1, -5))


class RequestMiddleware:
    """ASGI middleware around all else.

    Sets ``request.state.request_id``, ``.started`` (``time.monotonic``), ``.record``, a
    ``service.observability.request_record.RequestRecord``.
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
        """Wrap ``app``; while ``closing()`` every answer ends its connection."""
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
        state = scope.setdefault("state", {})
        state.setdefault("started", record.started)  # the connection's is that of the request's first byte
        state.update(request_id=request_id, record=record)
        unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        # A HEAD is answered as the GET that it stands for, without the body.
        inner = {**scope, "method": "GET"} if method == "HEAD" else scope

        async def receive_watched() -> Message:
            nonlocal unread
            message = await receive()
            record.bytes_received += len(message.get("body", b""))
            unread = unread and message.get("more_body", False)  # a disconnect has none either
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
    """Add what every answer carries; ``close`` ends its connection."""
    headers["X-Request-ID"] = record.request_id
    for name, value in _SECURITY.items():
        headers.setdefault(name, value)
    # Answers about images are kept by nobody; what has a tag may be, and is asked for again.
    headers.setdefault("Cache-Control", "no-cache" if "etag" in headers else "no-store")
    if record.model is not None and record.status < 400:
        headers["X-Model"] = record.model
    if close:
        headers["Connection"] = "close"
