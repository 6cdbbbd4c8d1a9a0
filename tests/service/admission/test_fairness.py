"""One hostile client with 64 connections and 100 KB/s cannot shut out a good one.

Each request of the good client must be answered during the attack. ``tests.long.fairness`` measures how
long it takes.
"""

import contextlib
import http.client
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.service import costly_images
from tests.service.conftest import JPEG
from tests.service.http.raw_requests import POST
from tests.service.process import Process, process

CONNECTIONS = 64
RATE = 100_000  # bytes per second of the hostile client, in all
IMAGES = 60  # of the good client, during each attack
LIMITS: dict[str, Any] = {"MAX_CONNECTIONS": 48, "MAX_QUEUE_SIZE": 24, "MAX_UPLOAD_MEMORY": 20_000_000}
"""So small that 64 connections could take all there is; by default there is more than twice as much."""


class Hostile:
    """Sends on many connections at a time, within its rate, and opens again what the server closes.

    Args:
        server: the victim.
        head: what each connection sends first.
        more: what it goes on to send, again and again, as the rate allows; nothing if empty.
        address: where it connects from. The good client's is 127.0.0.1.
    """

    def __init__(
        self, server: Process, head: bytes, more: bytes = b"", *, address: str = "127.0.0.1"
    ) -> None:
        self._server, self._head, self._more, self._address = server, head, more, address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.opened = 0

    def __enter__(self) -> "Hostile":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        budget, then = float(RATE), time.monotonic()
        connections: list[socket.socket] = []
        with contextlib.ExitStack() as stack:
            while not self._stop.wait(0.005):
                now = time.monotonic()
                budget, then = min(RATE, budget + (now - then) * RATE), now
                connections = [connection for connection in connections if self._lives(connection)]
                while len(connections) < CONNECTIONS and budget >= len(self._head) + 100:
                    budget -= len(self._head) + 100  # 100: the handshake's packets
                    connection = socket.create_connection(
                        ("127.0.0.1", self._server.port), timeout=20, source_address=(self._address, 0)
                    )
                    stack.enter_context(connection)
                    connection.setblocking(False)
                    self._send(connection, self._head)
                    connections.append(connection)
                    self.opened += 1
                if self._more and connections and budget >= len(self._more) * len(connections):
                    for connection in connections:
                        budget -= len(self._more)
                        self._send(connection, self._more)

    def _send(self, connection: socket.socket, data: bytes) -> None:
        with contextlib.suppress(OSError):
            connection.send(data)

    def _lives(self, connection: socket.socket) -> bool:
        try:
            alive = connection.recv(65_536) != b""
        except BlockingIOError:
            return True
        except OSError:
            alive = False
        if not alive:
            connection.close()
        return alive


def ask(server: Process, jpeg: bytes) -> None:
    """Send requests one after the other, half of them on new connections. Each must be answered."""
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for number in range(IMAGES):
        new = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        assert post(new if number % 2 else kept, jpeg) == 200
        new.close()
        time.sleep(0.005)
    kept.close()


def post(connection: http.client.HTTPConnection, jpeg: bytes) -> int:
    """The status of one prediction; asked again where an idle connection had been closed, as clients do."""
    for last in (False, True):
        try:
            connection.request("POST", "/predict", jpeg, JPEG)
            response = connection.getresponse()
            response.read()
            return response.status
        except (http.client.RemoteDisconnected, ConnectionError):
            connection.close()
            if last:
                raise
    raise AssertionError


@pytest.fixture(scope="module")
def server(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with process(tmp_path_factory.mktemp("server"), tiny, **LIMITS) as server:
        server.wait_ready()
        yield server


def announced_sizes() -> tuple[bytes, bytes]:
    return POST + b"Content-Length: 20000000\r\n\r\n" + b"\xff" * 100, b"\xff" * 1000


def idle_connections() -> tuple[bytes, bytes]:
    return b"", b""


def drips_of_headers() -> tuple[bytes, bytes]:
    return b"POST /predict HTTP/1.1\r\n", b"A: b\r\n"


def drips_of_chunks() -> tuple[bytes, bytes]:
    return POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n\xff\r\n"


def requests_without_a_body() -> tuple[bytes, bytes]:
    return POST + b"Content-Length: 1000\r\n\r\n", b""


def pings() -> tuple[bytes, bytes]:
    return b"", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


def scrapes() -> tuple[bytes, bytes]:
    return b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


def documents() -> tuple[bytes, bytes]:
    return b"", b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"


def tiny_images() -> tuple[bytes, bytes]:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    data = buffer.getvalue()
    return b"", POST.replace(b"jpeg", b"png") + b"Content-Length: %d\r\n\r\n" % len(data) + data


def scan_bombs() -> tuple[bytes, bytes]:
    data = costly_images.scans(600, 600, 400)
    return POST + b"Content-Length: %d\r\n\r\n" % len(data) + data, b""


def batches(query: bytes = b"") -> tuple[bytes, bytes]:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 150, 130)).save(buffer, "JPEG", quality=30)
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    body = b"".join(head + buffer.getvalue() + b"\r\n" for _ in range(32)) + b"--x--\r\n"
    request = (
        b"POST /predict/batch%b HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    )
    return request % query + b"Content-Length: %d\r\n\r\n" % len(body) + body, b""


def batches_with_overlays() -> tuple[bytes, bytes]:
    return batches(b"?gradcam=true")


@pytest.mark.parametrize(
    "attack",
    [
        announced_sizes,
        idle_connections,
        drips_of_headers,
        drips_of_chunks,
        requests_without_a_body,
        batches,
        batches_with_overlays,
    ],
)
def test_a_hostile_client_does_not_shut_out_a_good_one(
    server: Process, jpeg: bytes, attack: Callable[[], tuple[bytes, bytes]]
) -> None:
    assert_all_answered(server, jpeg, attack)


@pytest.mark.parametrize("attack", [pings, scrapes, documents])
def test_floods_do_not_shut_out_a_good_client(
    tiny: Path, tmp_path: Path, jpeg: bytes, attack: Callable[[], tuple[bytes, bytes]]
) -> None:
    with process(tmp_path, tiny) as server:
        server.wait_ready()
        assert_all_answered(server, jpeg, attack)


@pytest.mark.parametrize("attack", [tiny_images, scan_bombs])
def test_floods_of_images_do_not_shut_out_a_good_client_at_another_address(
    tiny: Path, tmp_path: Path, jpeg: bytes, attack: Callable[[], tuple[bytes, bytes]]
) -> None:
    with process(tmp_path, tiny) as server:
        server.wait_ready()
        assert_all_answered(server, jpeg, attack, address="127.0.0.2")


def assert_all_answered(
    server: Process, jpeg: bytes, attack: Callable[[], tuple[bytes, bytes]], *, address: str = "127.0.0.1"
) -> None:
    with Hostile(server, *attack(), address=address) as hostile:
        time.sleep(1)
        ask(server, jpeg)
        assert hostile.opened >= (
            1 if attack in (batches, batches_with_overlays, scan_bombs) else CONNECTIONS
        )
