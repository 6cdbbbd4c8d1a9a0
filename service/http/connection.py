"""HTTP/1.1 connections with the limits that uvicorn lacks.

uvicorn waits without limit for request headers and for clients that do not read their responses. It also
accepts any number of connections.

A connection ends in one of three ways:

- It is closed after its last response if the whole request was read.
- It lingers if the client may still be sending: the sending side is closed, and data that arrives is dropped
  for two seconds. Closing at once could destroy the response before the client reads it.
- It is aborted if the client is too slow, or if there are too many connections and this client is the
  slowest.

A client that has closed its sending side may still read (RFC 9293, 3.6), or it may be gone: curl and most
libraries send the same FIN when they give up. While such a client waits for a response, the connection sends
it ``100 Continue``, which every HTTP/1.1 client must accept (RFC 9110, 15.2). If the client is gone, its
system resets the connection, and the work is cancelled.

Written for uvicorn 0.54. ``test_uvicorn_has_the_hooks_that_the_connection_relies_on`` lists what it uses.
"""

import asyncio
import itertools
import logging
import time
from contextlib import suppress
from typing import Any, cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from models.errors import DermaserveError
from service.admission.admission import upload_rate
from service.errors import HeadersTooSlow, Overloaded
from service.http.cors import cors_headers
from service.http.middleware import complete_headers, new_request_id
from service.http.problems import problem_response
from service.http.request_cycle import Cycle
from service.http.request_reader import RequestReader
from service.http.trusted_proxies import TrustedProxies
from service.http.turns import Turns
from service.observability.logs import log_request
from service.observability.metrics import Metrics
from service.observability.request_record import UNMATCHED, RequestRecord
from service.settings import Settings
from service.system.fair_queue import client_of, rank_of

_LINGER_SECONDS = 2.0
_LINGER_BYTES = 4_000_000
_PROBE_SECONDS = 0.05  # between the first two probes of a half-closed connection; then doubled each time

logger = logging.getLogger(__name__)


def connection_class(settings: Settings, metrics: Metrics) -> type["Connection"]:
    """Return the class for uvicorn's option ``http`` of one listener. Each connection gets an instance."""
    own = {"settings": settings, "metrics": metrics, "waiting": {}, "turns": Turns()}
    own["proxies"] = TrustedProxies(settings.trusted_proxies)
    return type("BoundConnection", (Connection,), own)


class Connection(RequestReader):
    """One connection; see ``connection_class``.

    Attributes:
        waiting: connections of the same listener that wait for their clients to send a request or the rest
            of its headers, to read a response or to hang up. Maps each to the start of its wait, on the
            clock of ``time.monotonic``. The longest wait comes first.
        turns: decides when requests start; shared by the connections of the same listener.
        proxies: finds the client of a request; shared by the connections of the same listener.
    """

    settings: Settings
    metrics: Metrics
    waiting: "dict[Connection, float]"
    turns: Turns
    proxies: TrustedProxies

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._answering: Cycle | None = None  # of the latest request that was started
        self._began = float("-inf")  # when the latest request began to wait for its turn
        self._refusal: DermaserveError | None = None  # the final response, to an invalid request
        self._half_closed = False  # the client has closed its sending side
        self._ended = False  # no more requests are answered
        self._dropped = 0  # bytes
        self._timer: asyncio.TimerHandle | None = None  # of the wait for headers, or for the end
        self._write_timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None

    # Events of the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Count the connection. If there are too many, end the one with the slowest client."""
        super().connection_made(transport)
        self.metrics.connections.inc()
        # With the default of 64 KiB, smaller unread responses would not count as unread.
        transport.set_write_buffer_limits(high=0)
        if len(self.connections) > self.settings.max_connections:
            self.metrics.refused("connections")
            self._slowest()._drop()
        self._update_timers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and tell the running request that its client is gone."""
        self.metrics.connections.dec()
        self.waiting.pop(self, None)
        if self._answering is not None:
            self._answering.disconnect()
        super().connection_lost(exc)
        # uvicorn does not cancel its own timer after a reset. It would keep this object for 75 s.
        for timer in (self._timer, self._write_timer, self._probe_timer, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse the data, or keep it until the previous request is answered."""
        if self._ignores_input():
            self._dropped += len(data)
            if self._dropped > _LINGER_BYTES:
                self.transport.abort()
            return
        self._unparsed = self._unparsed + data if self._unparsed else data
        self._parse()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's always closes
        """Answer the pending requests as long as the client is there."""
        self._half_closed = not self._ended
        self._update_timers()
        if self._half_closed:
            self._probe(_PROBE_SECONDS)
        return not self.transport.is_closing() and self._half_closed

    def _probe(self, pause: float) -> None:
        """Send an interim response. If the client is gone, its system resets the connection."""
        answering = self._answering
        if self.transport.is_closing() or answering is None or self._idle():
            return
        if answering.scope["http_version"] != "1.1":  # HTTP/1.0 has no interim responses
            self.transport.close()
            return
        if not answering.response_started:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._probe_timer = self.loop.call_later(pause, self._probe, 2 * pause)

    def pause_writing(self) -> None:
        """Limit the time that the client may take to read the whole response."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.settings.write_timeout, self._cut_off)
        self._update_timers()

    def resume_writing(self) -> None:
        """Go on sending: the client has read what was sent."""
        super().resume_writing()
        self._end_write_timer()
        self._update_timers()

    # Events of the application

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cast(Cycle, cycle)

        def start() -> None:
            if not cycle.disconnected:  # while it waited for its turn
                super(Connection, self)._start_asgi_task(cycle, app)

        peer = self.client[0] if self.client else None
        client = client_of(self.proxies.client(peer, cycle.scope["headers"]))
        rank = cycle.scope["state"]["rank"] = rank_of(client, self._began)
        self._began = time.monotonic()
        self.turns.take(start, rank)

    def on_response_complete(self) -> None:
        """Start the next request, which may have arrived already."""
        self._end_write_timer()
        if self._ended:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        if self._refusal is not None and self._idle():
            self._send_refusal(self._refusal)
        self._parse()

    def _end(self) -> None:
        """End the connection after its last response."""
        if self._answering is not None and (self._answering.more_body or self._unparsed):
            self._linger()
        else:
            self._ended = True
            self.transport.close()

    # The end

    def _ignores_input(self) -> bool:
        """Whether data from the client is dropped."""
        return self._ended or self._refusal is not None or self.transport.is_closing()

    def _uploading(self) -> bool:
        """Whether the body of the running request is still arriving."""
        answering = self._answering
        return answering is not None and answering.more_body and not answering.response_complete

    def _idle(self) -> bool:
        """Whether all requests are answered."""
        return self._answering is None or (self._answering.response_complete and not self.pipeline)

    def _update_timers(self) -> None:
        """Run the header timer while headers are awaited, and keep ``waiting`` up to date."""
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

    def _end_write_timer(self) -> None:
        """End the limit on reading a response, unless a part of the response is left."""
        answering = self._answering
        left = answering is not None and answering.response_started and not answering.response_complete
        if self._write_timer is not None and not self.flow.write_paused and not left:
            self._write_timer.cancel()
            self._write_timer = None

    def _head_late(self) -> None:
        if self._in_head:
            self._refuse(HeadersTooSlow("The request's headers were not complete in time."))
        else:
            self.transport.close()  # there is no request to answer

    def _cut_off(self) -> None:
        logger.info("A client did not read its response in time. Its connection was closed.")
        self.transport.abort()

    def _slowest(self) -> "Connection":
        """Return the connection whose client is the slowest to send or read, or this one if none waits."""
        others = cast("set[Connection]", self.connections)
        rates = {other._answering.rate: other for other in others if other._answering and other._uploading()}
        for other, since in itertools.islice(self.waiting.items(), 1):
            rates[upload_rate(0, since)] = other
        return rates[min(rates)] if rates else self

    def _drop(self) -> None:
        """End this connection at once, to make room for another."""
        self.connections.discard(self)
        if self in self.waiting:
            self.waiting.pop(self)
            self.transport.abort()
        else:
            detail = "The server has reached its limit of connections."
            self._refuse(Overloaded(detail, reason="connections", retry_after=1))
            self.transport.close()

    def _refuse(self, error: DermaserveError) -> None:
        """Answer the earlier requests, then respond with ``error`` and end the connection."""
        self._refusal, self._unparsed = error, b""
        newest = self._newest
        if newest is not None and newest.more_body:
            if newest is not self._answering:
                self.pipeline.popleft()
            elif not newest.response_complete:
                newest.disconnect()  # the application is reading this request; it sees a disconnect
                newest.response_complete = True
        if self._idle():
            self._send_refusal(error)

    def _send_refusal(self, error: DermaserveError) -> None:
        """Respond without the application, which gets valid requests only."""
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
        """Close the sending side, and wait two seconds for the client to hang up.

        Closing while data arrives could destroy the response before the client reads it.
        """
        self._ended, self._unparsed = True, b""
        self.flow.resume_reading()
        with suppress(OSError, RuntimeError):  # the client is gone; uvloop raises RuntimeError
            self.transport.write_eof()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)
        self._update_timers()
