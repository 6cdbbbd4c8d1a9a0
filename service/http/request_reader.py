"""Parses the bytes of a connection into requests with llhttp, and limits heads and chunks."""

import time
from typing import Any, NoReturn
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from models.errors import DermaserveError
from service.errors import HeadersTooLarge, MalformedRequest
from service.http.request_cycle import Cycle
from service.http.request_head import MAX_HEAD_BYTES, check_head

_PIECE = 4096  # bytes given to the parser at a time, except for a body; few pipelined requests fit into it
_FRAMING = 32_768  # most bytes of chunk sizes, extensions and trailers around a body
_BUFFERED = 262_144  # unread bytes of a body above which reading pauses


class RequestReader(HttpToolsProtocol):
    """The reading side of ``service.http.connection.Connection``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = httptools.HttpRequestParser(self)  # uvicorn's own parser is lenient
        self._newest: Cycle | None = None  # the latest request whose headers are complete
        self._unparsed = b""  # received while a request was being answered
        self._in_head = False  # from a request's first byte to the end of its headers
        self._head_size = 0  # bytes of the head that the parser has reported
        self._head_received = 0  # bytes of the head that the parser was given
        self._body_left: int | None = 0  # None: the body comes in chunks
        self._framing = 0  # bytes of the body that are not content, minus an allowance for large chunks
        self._again: bytes | None = None  # a head to parse again, without its Upgrade header
        self._violation: DermaserveError | None = None  # raised in a callback of the parser

    # Connection implements these. This class cannot be used alone.

    def _refuse(self, error: DermaserveError) -> None:
        """Answer the earlier requests, then respond with ``error`` and end the connection."""
        raise NotImplementedError

    def _end(self) -> None:
        """End the connection after its last response."""
        raise NotImplementedError

    def _ignores_input(self) -> bool:
        """Whether data from the client is dropped."""
        raise NotImplementedError

    def _update_timers(self) -> None:
        """Adapt the timers to the state, which may have changed."""
        raise NotImplementedError

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """Begin a request at its first byte."""
        self._unset_keepalive_if_required()
        super().on_message_begin()
        self.scope["state"]["started"] = time.monotonic()
        self._in_head = True
        self._head_size = self._head_received = 0

    def on_url(self, url: bytes) -> None:
        """Add a part of the request target."""
        self._add_to_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header. Trailers are ignored."""
        if self._in_head:
            self._add_to_head(len(name) + len(value) + len(": \r\n"))
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Check the head, and start the request or queue it behind the previous one."""
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
        """Pass on a part of the body."""
        if self._newest is None:
            return
        if self._body_left is None:
            self._framing -= len(body) + len(body) // 64  # allows any number of chunks of 450 bytes
        else:
            self._body_left -= len(body)
        if self._newest.take(body) > _BUFFERED:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """End the request."""
        if self._newest is not None and self._again is None:
            self._newest.complete()

    # Parsing

    def _parse(self) -> None:
        """Give the received data to the parser, until a whole request waits to be answered."""
        while self._unparsed and not self._ignores_input():
            newest = self._newest
            in_body = newest is not None and newest.more_body
            if newest is not None and not in_body and not newest.response_complete:
                self.flow.pause_reading()
                break
            size = max(_PIECE, self._body_left or 0) if in_body else _PIECE
            piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            self._feed(piece)
        self._update_timers()

    def _feed(self, piece: bytes) -> None:
        in_head, newest = self._in_head, self._newest
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            # Upgrade is ignored (RFC 9110, 7.8), but llhttp takes all further data for another protocol.
            self.parser = httptools.HttpRequestParser(self)
            self._unparsed = (self._again or b"") + piece[upgrade.args[0] :] + self._unparsed
            self._again = None
            return
        except httptools.HttpParserError:
            # Data after a request that ends the connection does not matter.
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
        """Make the parser fail with ``error``. Called in its callbacks."""
        self._violation = error
        raise error


def _head_too_large() -> HeadersTooLarge:
    return HeadersTooLarge("The request line and headers are larger than the limit.")
