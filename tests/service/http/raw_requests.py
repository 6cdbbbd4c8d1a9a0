"""Sends raw requests over a socket to a server with short time limits, and reads its answers."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.app_client import wait_for
from tests.service.listening import Listening, listening, read_to_end

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LARGE = b"GET /static/swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


def head_of(size: int) -> bytes:
    """A request without a body, of ``size`` bytes."""
    head = LIVEZ[:-2] + b"A: %s\r\n\r\n"
    return head % (b"x" * (size - len(head % b"")))


@pytest.fixture(scope="module")
def server(tiny: Path) -> Iterator[Listening]:
    with listening(tiny, header_timeout=1, upload_grace=0.5, min_upload_rate=2_000) as server:
        yield server


@pytest.fixture(autouse=True)
def next_client_is_served(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "server" in request.fixturenames:
        server: Listening = request.getfixturevalue("server")
        assert [status for status, _, _ in answers(ask(server, LAST))] == [200]
        wait_for(lambda: server.sample("connections") == 0)
        assert server.runtime.admission.body_bytes == 0
        assert server.runtime.admission.requests == 0


def ask(server: Listening, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send ``pieces`` on one connection, and read until the server closes it."""
    with server.connect() as connection:
        # Cut off while sending: what it was told can still be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for index, piece in enumerate(pieces):
                time.sleep(pause if index else 0)
                connection.sendall(piece)
        return read_to_end(connection)


def answers(data: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of each answer in ``data``."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", 0))
        found.append((int(first.split()[1]), headers, rest[:length]))
        data = rest[length:]
    return found


def assert_refused(data: bytes, status: int, kind: str) -> None:
    """The last answer is a problem that ends the connection."""
    found, headers, body = answers(data)[-1]
    problem = json.loads(body)
    assert (found, problem["status"], problem["type"]) == (status, status, f"urn:dermaserve:problem:{kind}")
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["x-request-id"] == problem["request_id"]
    assert headers["x-content-type-options"] == "nosniff"
