"""Too many connections: the one that has waited for its client the longest makes room."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.app_client import wait_for
from tests.service.blocked_inference import BlockedInference
from tests.service.http.raw_requests import LARGE, LAST, LIVEZ, POST, answers, ask, assert_refused
from tests.service.listening import Listening, listening, read_to_end


def connect(server: Listening, *sent: bytes) -> socket.socket:
    """A further connection on which ``sent`` was sent, once the server has noticed it."""
    before = server.sample("connections")
    connection = server.connect()
    wait_for(lambda: server.sample("connections") in (before + 1, server.runtime.settings.max_connections))
    for data in sent:
        connection.sendall(data)
    return connection


def closed(connection: socket.socket) -> bool:
    """Whether the server ended the connection without a further answer."""
    connection.settimeout(0.2)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


@pytest.fixture
def small(tiny: Path) -> Iterator[Listening]:
    with listening(tiny, max_connections=3) as server:
        yield server


def test_the_oldest_idle_connection_makes_room_and_everyone_is_answered(small: Listening) -> None:
    silent, begun = connect(small), connect(small, b"GET /li")
    at_rest = connect(small, LIVEZ)
    assert at_rest.recv(1000).startswith(b"HTTP/1.1 200 ")
    for path in (b"/livez", b"/readyz", b"/metrics", b"/model"):
        assert answers(ask(small, LAST.replace(b"/livez", path)))[0][0] == 200
    assert closed(silent)
    assert not closed(begun)
    wait_for(lambda: small.sample("connections") == 2)
    for connection in (connect(small), connect(small)):
        assert answers(ask(small, LAST))[0][0] == 200
        connection.close()
    assert closed(begun)
    assert small.sample("rejections_total", reason="connections") >= 2
    for connection in (silent, begun, at_rest):
        connection.close()


def test_who_does_not_read_or_lingers_after_a_refusal_makes_room(
    small: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http.connection._LINGER_SECONDS", 600)
    refused = connect(small, b"garbage\r\n\r\n")
    assert_refused(refused.recv(10_000), 400, "malformed-request")
    not_reading = [connect(small, LARGE * 50) for _ in range(2)]
    time.sleep(0.5)  # until the buffers between here and there are full
    assert [answers(ask(small, LAST))[0][0] for _ in range(3)] == [200] * 3
    assert closed(refused)
    for connection in (refused, *not_reading):
        connection.close()


def test_a_request_being_answered_is_never_dropped_and_the_next_is_told_to_come_again(
    small: Listening, blocked: BlockedInference, jpeg: bytes
) -> None:
    blocked.patch()
    predict = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg
    inside = [connect(small, predict) for _ in range(3)]
    wait_for(lambda: small.runtime.admission.requests == 3)
    data = ask(small)
    assert_refused(data, 503, "overloaded")
    assert int(answers(data)[0][1]["retry-after"]) >= 1
    assert small.sample("rejections_total", reason="connections") == 1
    blocked.released.set()
    assert [answers(read_to_end(connection))[0][0] for connection in inside] == [200] * 3
    for connection in inside:
        connection.close()
