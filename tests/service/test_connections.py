"""Too many connections: probes are answered on a few more, all others are refused."""

import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import doorkeeper
from service.errors import Overloaded
from service.protocol import PROBES_RESERVE
from tests.service.door import wait_for
from tests.service.listening import Listening, listening, read_to_end
from tests.service.test_protocol import LAST, LIVEZ, POST, answers, ask, assert_refused


@pytest.fixture
def crowded(tiny: Path) -> Iterator[tuple[Listening, list[socket.socket]]]:
    """A server with both of its connections taken, and these."""
    opened: list[socket.socket] = []
    with listening(tiny, max_connections=2) as server:
        for _ in range(2):
            opened.append(server.connect())
            opened[-1].sendall(LIVEZ)
        wait_for(lambda: server.sample("requests_total", route="/livez", status="200") == 2)
        try:
            yield server, opened
        finally:
            for connection in opened:
                connection.close()


Crowded = tuple[Listening, list[socket.socket]]


def test_connections_over_the_limit_are_answered_for_probes_only(crowded: Crowded) -> None:
    server, opened = crowded
    for path in (b"/livez", b"/readyz", b"/metrics"):
        ((status, headers, _),) = answers(ask(server, LIVEZ.replace(b"/livez", path)))
        assert (status, headers["connection"]) == (200, "close")
    data = ask(server, POST + b"Content-Length: 5\r\n\r\n12345")
    assert_refused(data, 503, "overloaded")
    assert int(answers(data)[0][1]["retry-after"]) >= 1
    assert server.sample("rejections_total", reason="connections") == 1
    opened.pop().close()
    wait_for(lambda: server.sample("connections") == 1)
    assert answers(ask(server, LAST.replace(b"/livez", b"/model")))[0][0] == 200


def test_connections_far_over_the_limit_are_refused_at_once(
    crowded: Crowded, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, opened = crowded
    monkeypatch.setattr("service.protocol._LINGER", 600)  # not for these
    opened += [server.connect() for _ in range(PROBES_RESERVE)]
    wait_for(lambda: server.sample("connections") == 2 + PROBES_RESERVE)
    with server.connect() as connection:
        data = read_to_end(connection)
        wait_for(lambda: server.sample("connections") == 2 + PROBES_RESERVE)
    assert_refused(data, 503, "overloaded")
    assert int(answers(data)[0][1]["retry-after"]) >= 1
    assert server.sample("rejections_total", reason="connections") == 1


def test_who_left_before_the_refusal_leaves_no_error(
    crowded: Crowded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server, opened = crowded
    opened += [server.connect() for _ in range(PROBES_RESERVE)]
    wait_for(lambda: server.sample("connections") == 2 + PROBES_RESERVE)
    left = threading.Event()

    def refusal() -> Overloaded:
        assert left.wait(20)
        return doorkeeper.crowded()

    monkeypatch.setattr("service.protocol.crowded", refusal)
    server.connect().close()
    left.set()
    wait_for(lambda: server.sample("rejections_total", reason="connections") == 1)
    wait_for(lambda: server.sample("connections") == 2 + PROBES_RESERVE)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
