"""Passes one request to the application, and its response to the connection."""

import asyncio
from collections.abc import Callable
from typing import cast

from uvicorn._types import ASGIReceiveEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.admission.admission import upload_rate

# Waking the application for every TCP segment would cost more than the rest of receiving a body.
_WAKE_BYTES = 131_072
_WAKE_SECONDS = 0.05  # after the first unread byte, if fewer bytes have arrived


class Cycle(RequestResponseCycle):
    """One request and its response."""

    def __init__(self, connection: HttpToolsProtocol, end: Callable[[], None], *, keep_alive: bool) -> None:
        """Take over the request whose headers ``connection`` has parsed.

        Args:
            connection: receives the response.
            end: called to end the connection after the response.
            keep_alive: whether the connection takes further requests.
        """
        connection.scope["state"]["abort"] = self.abort
        super().__init__(
            scope=connection.scope,
            transport=cast(asyncio.Transport, _Output(connection.transport, end)),
            flow=connection.flow,
            logger=connection.logger,
            access_logger=connection.access_logger,
            access_log=connection.access_log,
            default_headers=connection.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=connection.expect_100_continue,
            keep_alive=keep_alive,
            on_response=connection.on_response_complete,
        )
        self._abort = connection.transport.abort
        self._parts: list[bytes] = []
        self._size = 0
        self._received = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def rate(self) -> float:
        """Bytes per second at which the body arrives; see ``upload_rate``."""
        return upload_rate(self._received, self.scope["state"]["started"])

    def take(self, body: bytes) -> int:
        """Keep a part of the body for the application. Return the number of unread bytes."""
        self._parts.append(body)
        self._size += len(body)
        self._received += len(body)
        if self._size >= _WAKE_BYTES:
            self.message_event.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WAKE_SECONDS, self.message_event.set)
        return self._size

    def complete(self) -> None:
        """Tell the application that the whole body has arrived."""
        self.more_body = False
        self.message_event.set()

    def disconnect(self) -> None:
        """Tell the application that its client is gone."""
        self.disconnected = True
        self.waiting_for_100_continue = False
        self.message_event.set()

    def abort(self) -> None:
        """End the connection at once. What the client has not read is lost."""
        self.disconnect()
        self._abort()

    async def receive(self) -> ASGIReceiveEvent:
        """Like uvicorn's method, without its copies, and without reading after the end of the request."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            if self.more_body:
                self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts, self._size = [], 0
        return {"type": "http.request", "body": body, "more_body": self.more_body}


class _Output:
    """The part of a transport that uvicorn's cycle uses. Closing is left to the connection."""

    def __init__(self, transport: asyncio.Transport, end: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = end
