"""HTTP/1.1 connections on which a hostile client wastes little: bounds that uvicorn has not.

uvicorn gives a client as long as it likes for a request's headers and for taking its answer, and any
number of connections; what h11 cannot parse it answers in plain text, uncounted.

Written for uvicorn 0.54, of whose ``H11Protocol`` it uses: ``connection_made``, ``connection_lost``,
``data_received``, ``on_response_complete``, ``pause_writing``, ``resume_writing``,
``send_400_response`` (called while the exception of h11 is being handled),
``_unsupported_upgrade_warning``, ``conn``, ``headers``, ``transport``,
``connections``, ``app_state``, ``timeout_keep_alive_task``, and ``cycle`` with ``body``,
``disconnected``, ``message_event``, ``response_complete`` and ``waiting_for_100_continue``. Its tests
fail if one of these goes.
"""

import asyncio
import logging
import sys
from contextlib import suppress

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from models.errors import DermaserveError
from service.doorkeeper import crowded
from service.errors import HeadersTooLarge, HeadersTooSlow, MalformedRequest
from service.logs import log_request
from service.metrics import Metrics
from service.middleware import complete_headers, new_request_id
from service.problems import problem_response
from service.record import UNMATCHED, Record
from service.settings import Settings

PROBES_RESERVE = 16
"""Connections over the limit that are still answered, for probes only; see ``service.doorkeeper``."""

_HEAD_PIECE = 4096  # of what is received, so that h11 looks at the length of headers before they are whole
_BODY_PIECE = 16_384
_FRAMING = 32_768  # bytes of chunk sizes and extensions that a body may have beyond its own length
_LINGER = 2.0  # seconds for a refused client to read why

logger = logging.getLogger(__name__)


def guarded_protocol(settings: Settings, metrics: Metrics) -> type[H11Protocol]:
    """The class to give to uvicorn as ``http``, which makes one for each connection."""
    return type("BoundProtocol", (GuardedProtocol,), {"settings": settings, "metrics": metrics})


class GuardedProtocol(H11Protocol):
    """One connection; see ``guarded_protocol``."""

    settings: Settings
    metrics: Metrics

    _refused = False
    _framing = 0
    _body_left = 0  # bytes of a body of stated length that are yet to come
    _timer: asyncio.TimerHandle | None = None  # for headers to come, or for a refused client to go
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Count the connection; over the limit, let it in for probes or not at all."""
        super().connection_made(transport)
        self.metrics.connections.inc()
        # Whatever is not sent at once counts as unread, not only what is over 64 KiB.
        transport.set_write_buffer_limits(high=0)
        beyond = len(self.connections) - self.settings.max_connections
        if beyond > PROBES_RESERVE:
            self.metrics.refused("connections")
            self._refuse(crowded())
            transport.close()  # at once: there is no room for more
        elif beyond > 0:
            self.app_state = {**self.app_state, "crowded": True}
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.metrics.connections.dec()
        super().connection_lost(exc)
        # uvicorn's own too, which it leaves when the client resets: it would keep all this for 75 s.
        for timer in (self._timer, self._write_timer, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Feed h11 in pieces, as it looks at lengths only between them.

        What is known to be body goes at once: in pieces, 4 MB cost as much as decoding a small image.
        """
        at = 0
        while at < len(data) and not self._refused and not self.transport.is_closing():
            in_body = self.conn.their_state is h11.SEND_BODY
            piece = data[at : at + (max(_BODY_PIECE, self._body_left) if in_body else _HEAD_PIECE)]
            at += len(piece)
            cycle = self.cycle
            before = len(cycle.body) if in_body else 0
            super().data_received(piece)
            if self.cycle is not cycle:
                self._framing = 0
                self._body_left = self._stated_length() - len(self.cycle.body)
            elif in_body:
                body = len(cycle.body) - before
                self._body_left -= body
                self._weigh(len(piece), body)
        self._watch_head()

    def on_response_complete(self) -> None:
        """Go on to the next request, of which a part may be there."""
        super().on_response_complete()
        self._watch_head()

    def pause_writing(self) -> None:
        """Begin to wait for the client to take its answer."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.settings.write_timeout, self._cut_off)

    def resume_writing(self) -> None:
        """The client has taken all that was sent."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer what h11 could not parse, as a problem; ``msg`` is uvicorn's and not for clients."""
        error = sys.exception()
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431:
            self._refuse(HeadersTooLarge("The request line and headers are over the limit."))
        else:
            self._refuse(MalformedRequest("The request is not well-formed HTTP/1.1."))

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: the request is answered as it stands (RFC 9110, 7.8), and anyone may send it."""

    def _stated_length(self) -> int:
        """Bytes of the request's body, by its headers, which h11 has checked; 0 if it comes in chunks."""
        headers = dict(self.headers)
        return 0 if b"transfer-encoding" in headers else int(headers.get(b"content-length", 0))

    def _weigh(self, received: int, body: int) -> None:
        """Refuse bodies in tiny chunks: h11 takes 12 microseconds for each, however short."""
        # Chunks from some 400 bytes on may go on for ever.
        self._framing = max(0, self._framing + received - body - body // 64)
        if self._framing > _FRAMING and not self._refused:
            self._refuse(MalformedRequest("The body comes in chunks that are too small."))

    def _watch_head(self) -> None:
        """Keep the timer running while headers are awaited: the first, or more of what has begun."""
        if self._refused:
            return
        begun = self.cycle is None or bool(self.conn.trailing_data[0])
        awaited = self.conn.their_state is h11.IDLE and begun
        if awaited and self._timer is None:
            self._timer = self.loop.call_later(self.settings.header_timeout, self._head_late)
        elif not awaited and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_late(self) -> None:
        if self.conn.trailing_data[0]:
            self._refuse(HeadersTooSlow("The request's headers were not complete in time."))
        else:
            self.transport.close()  # it never asked for anything

    def _cut_off(self) -> None:
        logger.info("A client that did not take its answer was cut off.")
        self.transport.abort()

    def _refuse(self, error: DermaserveError) -> None:
        """Answer ``error``, unless an answer is on its way, and end the connection.

        Written by hand: h11 would not answer what it has not parsed as a request.
        """
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            # The app is reading this request: for it the client is gone.
            self.cycle.disconnected = True
            self.cycle.waiting_for_100_continue = False
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing():
            record = Record(new_request_id(), "_OTHER")
            response = problem_response(error, record)
            record.status, record.bytes_sent = response.status_code, len(response.body)
            complete_headers(response.headers, record, close=True)
            lines = [b"HTTP/1.1 %d %s" % (record.status, STATUS_PHRASES[record.status])]
            lines += [b"%s: %s" % header for header in response.raw_headers]
            self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
            self.metrics.request(UNMATCHED, record.status, record.duration)
            log_request(record, audit=False)
        # Closing while data comes in would destroy the answer on its way: say that this was all, wait.
        with suppress(OSError, RuntimeError):  # the client is gone already; RuntimeError: uvloop's for that
            self.transport.write_eof()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(_LINGER, self.transport.abort)
