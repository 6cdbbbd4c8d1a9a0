"""The gRPC server: passes each call to an ASGI application, and its response back.

The application reads a message only after it has checked the key and admitted the request. gRPC gives whole
messages only, so the messages being received are limited by their number. A call that waits has at most its
HTTP/2 window in memory.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio
from starlette.types import ASGIApp, Message, Scope

from service.errors import SettingsError, UploadTooSlow
from service.http.trusted_proxies import TrustedProxies
from service.http.turns import Turns
from service.open_inference.grpc_messages import SERVICE
from service.open_inference.grpc_routes import CALLS
from service.settings import Settings
from service.system.fair_queue import FairSemaphore, Rank, client_of, rank_of

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""The code of gRPC for each status; INTERNAL for any other."""

_WINDOW = 262_144

_STREAMS = 32
"""Calls of one connection at a time."""

_IDLE_MS = 75_000
"""A connection without a call is closed after so long."""

_PING_MS, _PING_ANSWER_MS = 20_000, 10_000
"""A connection with calls on which nothing arrives is asked for a sign of life, which must come in time."""

_SMALL = 4
"""Messages without images that are received at a time."""


class GrpcServer(grpc.GenericRpcHandler):  # type: ignore[misc]  # gRPC is not typed
    """Serves ``inference.GRPCInferenceService`` on a port of its own."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        """Initialise without listening. ``app`` has a route for each call."""
        self._app = app
        self._settings = settings
        self._receiving = FairSemaphore(max(1, settings.max_upload_memory // settings.max_body_bytes))
        self._small = FairSemaphore(_SMALL)  # of the other calls, so that these never wait for images
        self._turns = Turns()
        self._proxies = TrustedProxies(settings.trusted_proxies)
        self._server: grpc.aio.Server | None = None

    async def begin(self) -> None:
        """Listen.

        Raises:
            SettingsError: the address cannot be used.
        """
        settings = self._settings
        options = [
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            # None: a small message could become a large one.
            ("grpc.compression_enabled_algorithms_bitset", 1),
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", _WINDOW),
            ("grpc.so_reuseport", 0),
            ("grpc.max_concurrent_streams", _STREAMS),
            ("grpc.max_connection_idle_ms", _IDLE_MS),
            ("grpc.keepalive_time_ms", _PING_MS),
            ("grpc.http2.ping_timeout_ms", _PING_ANSWER_MS),  # without it, a minute
            # For the first bytes of HTTP/2, before which none of the others applies.
            ("grpc.server_handshake_timeout_ms", round(settings.header_timeout * 1000)),
        ]
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=settings.max_connections)
        server.add_generic_rpc_handlers((self,))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        try:
            server.add_insecure_port(f"{host}:{settings.grpc_port}")
        except RuntimeError as error:
            raise SettingsError([f"DERMASERVE_GRPC_PORT: cannot listen on {settings.grpc_port}"]) from error
        await server.start()
        self._server = server

    async def end(self, seconds: float) -> None:
        """Accept no more calls, and finish those in progress within ``seconds``."""
        if self._server is not None:
            await self._server.stop(seconds)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return the handler of a call, or None if there is no such call."""
        service, _, call = details.method.removeprefix("/").partition("/")
        if service != SERVICE or call not in CALLS:
            return None

        async def handle(messages: AsyncIterator[bytes], context: Any) -> bytes:
            scope = _scope(details.method, context, self._proxies)
            await self._turn(scope["state"]["rank"])
            places = self._receiving if call == "ModelInfer" else self._small
            return await _Call(self._app, self._settings, places, scope, messages, context).run()

        # To the client there is no difference. This handler decides when the message is read.
        return grpc.stream_unary_rpc_method_handler(handle)

    async def _turn(self, rank: Rank) -> None:
        """Wait until the call may start, as a request over HTTP does."""
        turn = asyncio.Event()
        self._turns.take(turn.set, rank)
        await turn.wait()


class _Call:
    """One call as an ASGI request."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        receiving: FairSemaphore,
        scope: Scope,
        messages: AsyncIterator[bytes],
        context: Any,
    ) -> None:
        self._app = app
        self._settings = settings
        self._small = not scope["path"].endswith("/ModelInfer")
        self._receiving = receiving
        self._messages = messages
        self._context = context
        self._place = AsyncExitStack()
        self._read = False
        self._gone = asyncio.Event()
        self._status = 500
        self._headers: dict[str, str] = {}
        self._body = b""
        self._scope = scope

    async def run(self) -> bytes:
        """Run the application, and return its response or end the call with its error."""
        task = asyncio.ensure_future(self._app(self._scope, self._receive, self._send))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            # The client has cancelled the call, or it is late.
            self._gone.set()
            await asyncio.wait([task])
            raise
        finally:
            await self._place.aclose()
        trailers = [("x-request-id", self._headers.get("x-request-id", ""))]
        if "retry-after" in self._headers:
            trailers.append(("retry-after", self._headers["retry-after"]))
        self._context.set_trailing_metadata(tuple(trailers))
        if self._status == 200:
            return self._body
        code = _CODES.get(self._status, grpc.StatusCode.INTERNAL)
        await self._context.abort(code, json.loads(self._body)["detail"])
        raise AssertionError  # abort() raises

    async def _receive(self) -> Message:
        """Return the message, then wait until the client is gone.

        The place of the message is kept until the application asks for the next event. By then it has counted
        the bytes, or needs them no longer.
        """
        if not self._read:
            self._read = True
            await self._place.enter_async_context(self._receiving.place(self._rank()))
            reading = asyncio.ensure_future(anext(self._messages, None))
            leaving = asyncio.ensure_future(self._gone.wait())
            seconds = self._settings.header_timeout if self._small else self._settings.request_timeout
            try:
                await asyncio.wait({reading, leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done() and not leaving.done():
                    raise UploadTooSlow(f"The message did not arrive within {seconds:g} s.")
                message = reading.result() if reading.done() and reading.exception() is None else None
            finally:
                reading.cancel()
                leaving.cancel()
            if message is not None:
                return {"type": "http.request", "body": message, "more_body": False}
        else:
            await self._place.aclose()
            await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            self._body += message.get("body", b"")

    def _rank(self) -> Rank:
        rank: Rank = self._scope["state"]["rank"]
        return rank


def _scope(path: str, context: Any, proxies: TrustedProxies) -> Scope:
    """Build the scope of an ASGI request from a call."""
    metadata = context.invocation_metadata() or ()
    headers = [(name.lower().encode(), _bytes(value)) for name, value in metadata]
    headers = [
        (name, value) for name, value in headers if name not in (b"content-length", b"content-encoding")
    ]
    client = client_of(proxies.client(_address(context.peer()), headers))
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "2",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [*headers, (b"transfer-encoding", b"chunked")],
        "state": {"whole": True, "rank": rank_of(client, asyncio.get_running_loop().time())},
    }


def _bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8", "replace") if isinstance(value, str) else value


def _address(peer: str) -> str | None:
    """Return the address in gRPC's name of a peer, such as ``ipv4:192.0.2.1:5000``."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else None
