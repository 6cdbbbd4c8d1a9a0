"""HTTP/1.1 connections with the limits that uvicorn lacks.

uvicorn waits as long as a client likes for its request headers and for it to read its answer, and uvicorn
accepts any number of connections.

A connection ends in one of three ways:

- It is closed when the answer that ends it has been sent and the request was read to its end.
- It lingers when the client may still be sending: the sending side is closed, and what arrives is dropped for
  a moment. Closing at once would destroy the answer on its way.
- It is aborted when its client takes too long, or when there are too many connections and its client is the
  slowest.

A client that sends no more may read on (RFC 9293, 3.6), or it may be gone: curl and most libraries send the
same FIN when they give up. While such a client waits for an answer, it is sent ``100 Continue``, which every
client of HTTP/1.1 must accept (RFC 9110, 15.2). The system of one that is gone resets the connection, and its
work is cancelled.

Written for uvicorn 0.54; ``test_uvicorn_has_the_hooks_that_the_connection_relies_on`` names what it uses.
"""

import asyncio
import itertools
import logging
import time
from contextlib import suppress
from typing import Any, NoReturn, cast
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from models.errors import DermaserveError
from service.admission.admission import upload_rate
from service.errors import HeadersTooLarge, HeadersTooSlow, MalformedRequest, Overloaded
from service.http.cors import cors_headers
from service.http.middleware import complete_headers, new_request_id
from service.http.problems import problem_response
from service.http.request_cycle import Cycle
from service.http.request_head import MAX_HEAD_BYTES, check_head
from service.http.turns import Turns
from service.observability.logs import log_request
from service.observability.metrics import Metrics
from service.observability.request_record import UNMATCHED, RequestRecord
from service.settings import Settings
from service.system.fair_queue import client_of, rank_of

_PIECE = 4096  # bytes fed to the parser at a time, except for a body: few pipelined requests fit
_FRAMING = 32_768  # bytes of chunk sizes, extensions and trailers that a body may have beyond its own length
_BUFFERED = 262_144  # bytes of a body that wait for the application; then reading is paused
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 4_000_000
_PROBE_SECONDS = 0.05  # after the first probe of a client that sends no more; then twice as long each time

logger = logging.getLogger(__name__)


def connection_class(settings: Settings, metrics: Metrics) -> type["Connection"]:
    """The class to give to one listener as uvicorn's ``http``; it makes one object for each connection."""
    own = {"settings": settings, "metrics": metrics, "waiting": {}, "turns": Turns()}
    return type("BoundConnection", (Connection,), own)


class Connection(HttpToolsProtocol):
    """One connection; see ``connection_class``.

    Attributes:
        waiting: connections of the same listener that wait for their clients: to ask, to go on with their
            headers, to read an answer or to hang up; with the time of ``time.monotonic`` since when. The one
            that has waited the longest comes first.
        turns: of the same listener's connections to begin a request.
    """

    settings: Settings
    metrics: Metrics
    waiting: "dict[Connection, float]"
    turns: Turns

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = httptools.HttpRequestParser(self)  # uvicorn's own is set to lenient parsing
        self._newest: Cycle | None = None  # of the latest request whose headers are complete
        self._answering: Cycle | None = None  # the same, or one before it
        self._began = float("-inf")  # to wait for a turn, the latest request
        self._client: str | None = None
        self._unparsed = b""  # received while a request was being answered
        self._in_head = False  # from a request's first byte to the end of its headers
        self._head_size = 0  # of the head, as far as it is parsed
        self._head_received = 0
        self._body_left: int | None = 0  # None: the body comes in chunks
        self._framing = 0
        self._again: bytes | None = None  # a head to be parsed again, without its Upgrade
        self._violation: DermaserveError | None = None  # raised in an event of the parser
        self._refusal: DermaserveError | None = None  # the answer to what cannot be read, the last one
        self._half_closed = False  # the client sends no more
        self._ended = False  # nothing is answered any more
        self._dropped = 0  # bytes
        self._timer: asyncio.TimerHandle | None = None  # for headers to come, or for a client to hang up
        self._write_timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None

    # Events of the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Count the connection. Over the limit, end the one whose client is the slowest."""
        super().connection_made(transport)
        self._client = client_of(self.client[0] if self.client else None)
        self.metrics.connections.inc()
        # Whatever is not sent at once counts as unread, not only what is over 64 KiB.
        transport.set_write_buffer_limits(high=0)
        if len(self.connections) > self.settings.max_connections:
            self.metrics.refused("connections")
            self._slowest()._drop()
        self._look_at_state()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; the request that is being answered learns that its client is gone."""
        self.metrics.connections.dec()
        self.waiting.pop(self, None)
        if self._answering is not None:
            self._answering.disconnect()
        super().connection_lost(exc)
        # uvicorn's own too, which it leaves when the client resets: it would keep all this for 75 s.
        for timer in (self._timer, self._write_timer, self._probe_timer, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what was received, or keep it until the request before it has been answered."""
        if self._deaf():
            self._dropped += len(data)
            if self._dropped > _LINGER_BYTES:
                self.transport.abort()
            return
        self._unparsed = self._unparsed + data if self._unparsed else data
        self._parse()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's always closes
        """Answer what was asked for, as long as the client is there."""
        self._half_closed = not self._ended
        self._look_at_state()
        if self._half_closed:
            self._probe(_PROBE_SECONDS)
        return not self.transport.is_closing() and self._half_closed

    def _probe(self, pause: float) -> None:
        """Send what makes the system of a client that is gone reset the connection; the next write fails."""
        answering = self._answering
        if self.transport.is_closing() or answering is None or self._idle():
            return
        if answering.scope["http_version"] != "1.1":  # such a client takes no interim response
            self.transport.close()
            return
        if not answering.response_started:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._probe_timer = self.loop.call_later(pause, self._probe, 2 * pause)

    def pause_writing(self) -> None:
        """Begin to wait for the client to read its answer."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.settings.write_timeout, self._cut_off)
        self._look_at_state()

    def resume_writing(self) -> None:
        """The client has read all that was sent."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
        self._look_at_state()

    # Events of the parser

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._unset_keepalive_if_required()
        super().on_message_begin()
        self.scope["state"]["started"] = time.monotonic()
        self._in_head = True
        self._head_size = self._head_received = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._add_to_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or a trailer, which is ignored."""
        if self._in_head:
            self._add_to_head(len(name) + len(value) + len(": \r\n"))
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Check the head and begin to answer."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        self._add_to_head(len(method) + len("  HTTP/1.1\r\n\r\n"))
        self._in_head = False
        try:
            check_head(method, version, self.headers)
        except MalformedRequest as error:
            self._violate(error)
        headers = dict(self.headers)
        if self.parser.should_upgrade():
            lines = [b": ".join(header) for header in self.headers if header[0] != b"upgrade"]
            first = b"%s %s HTTP/%s" % (method, self.url, version.encode())
            self._again = b"\r\n".join([first, *lines, b"", b""])
            return
        self._body_left = None if b"transfer-encoding" in headers else int(headers.get(b"content-length", 0))
        self._framing = 0
        target = httptools.parse_url(self.url)
        path = target.path or b"/"
        self.scope["method"] = method.decode("ascii")
        self.scope["http_version"] = version
        self.scope["path"] = unquote(path.decode("ascii")) if b"%" in path else path.decode("ascii")
        self.scope["raw_path"] = path
        self.scope["query_string"] = target.query or b""
        before = self._newest
        self._newest = self.cycle = cycle = Cycle(
            self, self._end, keep_alive=version == "1.1" and self.parser.should_keep_alive()
        )
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._newest is None:
            return
        if self._body_left is None:
            self._framing -= len(body) + len(body) // 64  # chunks from some 400 bytes on may go on for ever
        else:
            self._body_left -= len(body)
        if self._newest.take(body) > _BUFFERED:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """The end of a request."""
        if self._newest is not None and self._again is None:
            self._newest.complete()

    # Events of the application

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cast(Cycle, cycle)

        def start() -> None:
            if not cycle.disconnected:  # by the time of its turn
                super(Connection, self)._start_asgi_task(cycle, app)

        rank = cycle.scope["state"]["rank"] = rank_of(self._client, self._began)
        self._began = time.monotonic()
        self.turns.take(start, rank)

    def on_response_complete(self) -> None:
        """Go on to the next request, which may have been received already."""
        if self._ended:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        if self._refusal is not None and self._idle():
            self._send_refusal(self._refusal)
        self._parse()

    def _end(self) -> None:
        """End the connection after the answer that says so."""
        if self._answering is not None and (self._answering.more_body or self._unparsed):
            self._linger()
        else:
            self._ended = True
            self.transport.close()

    # Parsing

    def _parse(self) -> None:
        """Feed the parser until there is a whole request to be answered."""
        while (
            self._unparsed and not self._ended and self._refusal is None and not self.transport.is_closing()
        ):
            newest = self._newest
            in_body = newest is not None and newest.more_body
            if newest is not None and not in_body and not newest.response_complete:
                self.flow.pause_reading()
                break
            size = max(_PIECE, self._body_left or 0) if in_body else _PIECE
            piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            self._feed(piece)
        self._look_at_state()

    def _feed(self, piece: bytes) -> None:
        in_head, newest = self._in_head, self._newest
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            # It is ignored (RFC 9110, 7.8), but llhttp takes all that follows for another protocol.
            self.parser = httptools.HttpRequestParser(self)
            self._unparsed = (self._again or b"") + piece[upgrade.args[0] :] + self._unparsed
            self._again = None
            return
        except httptools.HttpParserError:
            # A client may send what it likes after a request that ends the connection.
            if newest is None or newest.more_body or newest.keep_alive:
                self._refuse(self._violation or MalformedRequest("The request is not well-formed HTTP/1.1."))
            return
        if in_head and self._in_head:
            self._head_received += len(piece)
            if self._head_received > MAX_HEAD_BYTES:
                self._refuse(_head_too_large())
        elif newest is self._newest and newest is not None and self._body_left is None:
            self._framing = max(0, self._framing + len(piece))
            if self._framing > _FRAMING:
                self._refuse(MalformedRequest("The body comes in chunks that are too small."))

    def _add_to_head(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD_BYTES:
            self._violate(_head_too_large())

    def _violate(self, error: DermaserveError) -> NoReturn:
        """In an event of the parser: make it fail with ``error``."""
        self._violation = error
        raise error

    # The end

    def _deaf(self) -> bool:
        """Whether what the client sends is not read any more."""
        return self._ended or self._refusal is not None or self.transport.is_closing()

    def _uploading(self) -> bool:
        """Whether the request that is being answered is still arriving."""
        answering = self._answering
        return answering is not None and answering.more_body and not answering.response_complete

    def _idle(self) -> bool:
        """Whether all requests are answered."""
        return self._answering is None or (self._answering.response_complete and not self.pipeline)

    def _look_at_state(self) -> None:
        """Keep the timer for headers running while they are awaited, and the record of who waits."""
        idle = self._idle()
        if self._half_closed and (idle or self._uploading()):
            self.transport.close()
        if not self._ended:
            awaited = idle and (self._newest is None or self._in_head)
            if awaited and self._timer is None:
                self._timer = self.loop.call_later(self.settings.header_timeout, self._head_late)
            elif not awaited and self._timer is not None:
                self._timer.cancel()
                self._timer = None
        if idle or self._ended or self.flow.write_paused:
            self.waiting.setdefault(self, time.monotonic())
        else:
            self.waiting.pop(self, None)

    def _head_late(self) -> None:
        if self._in_head:
            self._refuse(HeadersTooSlow("The request's headers were not complete in time."))
        else:
            self.transport.close()  # it never asked for anything

    def _cut_off(self) -> None:
        logger.info("A client that did not take its answer was cut off.")
        self.transport.abort()

    def _slowest(self) -> "Connection":
        """The connection whose client is the slowest, be it to ask, to send or to read; else this one."""
        others = cast("set[Connection]", self.connections)
        rates = {other._answering.rate: other for other in others if other._answering and other._uploading()}
        for other, since in itertools.islice(self.waiting.items(), 1):
            rates[upload_rate(0, since)] = other
        return rates[min(rates)] if rates else self

    def _drop(self) -> None:
        """Make room for another connection, at once."""
        self.connections.discard(self)
        if self in self.waiting:
            self.waiting.pop(self)
            self.transport.abort()
        else:
            detail = "There are as many connections as are accepted."
            self._refuse(Overloaded(detail, reason="connections", retry_after=1))
            self.transport.close()

    def _refuse(self, error: DermaserveError) -> None:
        """Answer ``error``, after the requests before it, and end the connection."""
        self._refusal, self._unparsed = error, b""
        newest = self._newest
        if newest is not None and newest.more_body:
            if newest is not self._answering:
                self.pipeline.popleft()
            elif not newest.response_complete:
                newest.disconnect()  # the application is reading this request: for it the client is gone
                newest.response_complete = True
        if self._idle():
            self._send_refusal(error)

    def _send_refusal(self, error: DermaserveError) -> None:
        """Answer without the application, which cannot answer what is not a request."""
        last = self._answering
        half_answered = last is not None and last.disconnected and last.response_started
        if not half_answered and not self.transport.is_closing():
            record = RequestRecord(new_request_id(), "_OTHER")
            response = problem_response(error, record)
            record.status, record.bytes_sent = response.status_code, len(response.body)
            origin = dict(self.headers or []).get(b"origin", b"").decode("latin-1")
            response.headers.update(cors_headers(origin, self.settings.cors_origins))
            complete_headers(response.headers, record, close=True)
            lines = [b"%s: %s\r\n" % header for header in response.raw_headers]
            head = b"".join([STATUS_LINE[record.status], *lines, b"\r\n"])
            self.transport.write(head + bytes(response.body))
            self.metrics.request(UNMATCHED, record.status, record.duration)
            log_request(record, audit=False)
        self._linger()

    def _linger(self) -> None:
        """Say that this was all, and wait for a moment for the client to hang up.

        Closing while data comes in would destroy the answer on its way.
        """
        self._ended, self._unparsed = True, b""
        self.flow.resume_reading()
        with suppress(OSError, RuntimeError):  # the client is gone already; RuntimeError: uvloop's for that
            self.transport.write_eof()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)
        self._look_at_state()


def _head_too_large() -> HeadersTooLarge:
    return HeadersTooLarge("The request line and headers are over the limit.")
