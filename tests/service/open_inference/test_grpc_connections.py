"""gRPC: connections that do nothing, that hold many calls, or whose client is slow or gone."""

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

grpc = pytest.importorskip("grpc")

from service.open_inference import grpc_server  # noqa: E402 - needs grpc
from service.open_inference.grpc_messages import MESSAGES, SERVICE  # noqa: E402
from service.settings import Settings  # noqa: E402
from tests.service.open_inference.test_grpc import infer_request  # noqa: E402
from tests.service.open_inference.test_grpc_limits import silent  # noqa: E402
from tests.service.process import free_port, process  # noqa: E402

LIVE = f"/{SERVICE}/ServerLive"


def own_channel(port: int) -> Any:
    """Open a channel with a connection of its own. Others of one process share theirs."""
    return grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)])


def is_live(channel: Any) -> Any:
    return channel.unary_unary(LIVE)(b"", timeout=60)


def refused_call(channel: Any) -> None:
    """Repeat a call until it is refused."""
    for _ in range(10_000):
        is_live(channel)


def test_a_message_may_come_slower_than_the_rate_of_uploads(tiny: Path, tmp_path: Path, jpeg: bytes) -> None:
    port, send = free_port(), threading.Event()

    def messages() -> Iterator[bytes]:
        send.wait(60)
        yield infer_request(jpeg)

    settings = {"GRPC_PORT": port, "MIN_UPLOAD_RATE": 1_000_000, "UPLOAD_GRACE": 1, "REQUEST_TIMEOUT": 120}
    with process(tmp_path, tiny, **settings) as running, own_channel(port) as channel:
        running.wait_ready()
        slow = channel.stream_unary(f"/{SERVICE}/ModelInfer").future(messages(), timeout=120)
        is_live(channel)  # so the call before it has begun
        with socket.create_connection(("127.0.0.1", running.port), timeout=60) as upload:
            upload.sendall(b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: image/jpeg\r\n")
            upload.sendall(b"content-length: 9\r\n\r\n")
            assert b" 408 " in upload.recv(65_536)  # over HTTP the rate applies
        send.set()
        assert MESSAGES["ModelInferResponse"].FromString(slow.result()).model_name == "tiny-test-bundle"


def test_a_connection_has_a_limited_number_of_calls(tiny: Path, tmp_path: Path) -> None:
    port, done = free_port(), threading.Event()
    with process(tmp_path, tiny, GRPC_PORT=port, REQUEST_TIMEOUT=300) as running:
        running.wait_ready()
        with own_channel(port) as full, own_channel(port) as other:
            is_live(full)  # so the limit has arrived
            stalled = [silent(full, "ModelInfer", done) for _ in range(grpc_server._STREAMS)]
            waiting = full.unary_unary(LIVE).future(b"", timeout=120)
            for _ in range(20):
                is_live(other)
            assert not waiting.done()
            stalled[0].cancel()
            assert MESSAGES["ServerLiveResponse"].FromString(waiting.result()).live
            done.set()


def test_the_calls_of_all_connections_are_limited(tiny: Path, tmp_path: Path) -> None:
    port, done = free_port(), threading.Event()
    with process(tmp_path, tiny, GRPC_PORT=port, REQUEST_TIMEOUT=300, MAX_CONNECTIONS=2) as running:
        running.wait_ready()
        with own_channel(port) as one, own_channel(port) as two:
            stalled = [silent(one, "ModelInfer", done)]
            is_live(one)
            stalled.append(silent(one, "ModelInfer", done))
            with pytest.raises(grpc.RpcError) as error:
                refused_call(two)
            assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            for call in stalled:
                call.cancel()
            done.set()


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> Callable[..., None]:
    """Run a client against a server with short times, whose calls end when their client is gone."""

    async def silent_app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()

    async def live(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def run(client: Callable[[int], Awaitable[None]], **times: int) -> None:
        for name in ("_IDLE_MS", "_PING_MS", "_PING_ANSWER_MS"):
            monkeypatch.setattr(grpc_server, name, times.get(name, 300_000))
        port, header_timeout = free_port(), times.get("header", 300)
        settings = Settings(bundle=tiny, grpc_port=port, header_timeout=header_timeout, request_timeout=300)

        async def both() -> None:
            server = grpc_server.GrpcServer(live if "_IDLE_MS" in times else silent_app, settings)
            await server.begin()
            try:
                await client(port)
            finally:
                await server.end(0)

        asyncio.run(both())

    return run


def test_a_connection_without_calls_is_closed(serving: Callable[..., None]) -> None:
    async def client(port: int) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.unary_unary(LIVE)(b"")
            while (state := channel.get_state()) is not grpc.ChannelConnectivity.IDLE:
                await channel.wait_for_state_change(state)

    serving(client, _IDLE_MS=100)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2."""
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def text(value: str) -> bytes:
    """Return a string of HPACK."""
    return bytes([len(value)]) + value.encode()


BEGIN = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(4, 1, 0)
HEADERS = b"\x83\x86\x01" + text("a") + b"\x04" + text(f"/{SERVICE}/ModelInfer")
HEADERS += b"\x00" + text("content-type") + text("application/grpc") + b"\x00" + text("te") + text("trailers")


@pytest.mark.parametrize(
    ("sent", "times"),
    [
        (b"", {"header": 1}),
        (BEGIN[:20], {"header": 1}),
        (BEGIN + frame(1, 4, 1, HEADERS), {"_PING_MS": 1000, "_PING_ANSWER_MS": 100}),
    ],
    ids=["sends nothing", "stops in the greeting", "answers no ping"],
)
def test_a_connection_whose_client_is_gone_is_closed(
    serving: Callable[..., None], sent: bytes, times: dict[str, int]
) -> None:
    async def client(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await reader.read()  # until the server closes
        writer.close()

    serving(client, **times)
