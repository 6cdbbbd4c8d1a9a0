"""Bytes on a socket: whatever a client sends, leaves out or does not read, the next one is served."""

import contextlib
import gc
import json
import socket
import struct
import time
from pathlib import Path

import httptools
import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.http.connection import Connection
from tests.service.app_client import wait_for
from tests.service.blocked_inference import BlockedInference
from tests.service.http.raw_requests import (
    CHUNKED,
    LARGE,
    LAST,
    LIVEZ,
    POST,
    answers,
    ask,
    assert_refused,
    next_client_is_served,
    server,
)
from tests.service.listening import Listening, listening, read_to_end

__all__ = ["next_client_is_served", "server"]  # fixtures


# What it is built on


def test_uvicorn_has_the_hooks_that_the_connection_relies_on() -> None:
    config = uvicorn.Config(lambda *_: None, lifespan="off")
    protocol = HttpToolsProtocol(config, ServerState(), {}, _loop=object())  # type: ignore[arg-type]  # never run
    own = {"settings", "metrics", "waiting"}
    methods = {name for name in vars(Connection) if not name.startswith("_")} - own
    for missing in [name for name in methods if not callable(getattr(protocol, name, None))]:
        pytest.fail(
            f"uvicorn {uvicorn.__version__}: HttpToolsProtocol.{missing} is gone, "
            "which service/http/connection.py uses"
        )
    assert callable(protocol._start_asgi_task)
    assert callable(protocol._unset_keepalive_if_required)
    attributes = {"app", "connections", "cycle", "flow", "headers", "loop", "parser", "pipeline", "scope"}
    attributes |= {"server_state", "timeout_keep_alive_task", "transport"}
    assert attributes <= set(vars(protocol)), f"uvicorn {uvicorn.__version__}: see service/http/connection.py"
    cycle = {"disconnected", "flow", "keep_alive", "message_event", "more_body", "response_complete"}
    cycle |= {"response_started", "transport", "waiting_for_100_continue"}
    assert cycle <= set(RequestResponseCycle.__init__.__code__.co_names)
    assert {"should_upgrade", "should_keep_alive", "feed_data"} <= set(dir(httptools.HttpRequestParser))


def test_an_upgrade_that_is_not_offered_is_answered_without_a_word_in_the_log(
    server: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    answer = ask(
        server, b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    )
    assert [status for status, _, _ in answers(answer)] == [200]
    assert "websocket" not in caplog.text.lower()


# Time for headers


def test_a_connection_that_never_asks_is_closed_in_silence(server: Listening) -> None:
    assert ask(server) == b""


def test_headers_that_come_in_drops_are_408(server: Listening) -> None:
    drops = [b"GET /livez HTTP/1.1\r\nX: ", *[b"x"] * 30]
    assert_refused(ask(server, *drops, pause=0.05), 408, "headers-too-slow")
    assert server.sample("requests_total", route="unmatched", status="408") >= 1


def test_the_second_request_of_a_connection_has_no_more_time(server: Listening) -> None:
    data = ask(server, LIVEZ, b"GET /li", *[b"v"] * 30, pause=0.05)
    assert [status for status, _, _ in answers(data)] == [200, 408]


def test_between_requests_a_connection_may_rest(server: Listening) -> None:
    data = ask(server, LIVEZ, LAST, pause=1.5)
    assert [status for status, _, _ in answers(data)] == [200, 200]


def test_pipelined_requests_are_answered_in_order_and_the_rest_has_no_more_time(server: Listening) -> None:
    model = b"GET /model HTTP/1.1\r\nHost: x\r\n\r\n"
    data = ask(server, LIVEZ + model + LIVEZ * 200 + b"GET /li")
    found = answers(data)
    assert [status for status, _, _ in found] == [200] * 202 + [408]
    assert (json.loads(found[0][2]), "classes" in json.loads(found[1][2])) == ({"status": "alive"}, True)


def test_a_client_that_sends_no_more_gets_its_answers(server: Listening, jpeg: bytes) -> None:
    good = POST + b"Content-Length: %d\r\n\r\n" % len(jpeg) + jpeg
    for requests, statuses in ((LIVEZ, [200]), (good, [200]), (LIVEZ + good + LIVEZ * 3, [200] * 5)):
        with server.connect() as connection:
            connection.sendall(requests)
            connection.shutdown(socket.SHUT_WR)
            found = [status for status, _, _ in answers(read_to_end(connection))]
            assert [status for status in found if status != 100] == statuses


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_the_work_of_a_client_that_closes_its_connection_is_cancelled(
    tiny: Path, jpeg: bytes, blocked: BlockedInference, version: str
) -> None:
    head = POST.replace(b"1.1", version.encode()) + b"Content-Length: %d\r\n\r\n" % len(jpeg)
    with listening(tiny, decode_workers=1) as server:
        blocked.patch()
        for _ in range(5):
            with server.connect() as connection:
                connection.sendall(head + jpeg)
                wait_for(lambda: server.runtime.admission.requests == 1)
            wait_for(lambda: server.runtime.admission.requests == 0)  # although nothing has been answered
        assert not blocked.released.is_set()
        assert server.sample("connections") == 0
        blocked.released.set()


def test_a_client_that_sends_no_more_and_waits_for_long_gets_its_answer(
    tiny: Path, jpeg: bytes, blocked: BlockedInference
) -> None:
    with listening(tiny) as server, server.connect() as connection:
        blocked.patch()
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(jpeg) + jpeg)
        connection.shutdown(socket.SHUT_WR)
        assert blocked.started.wait(20)
        time.sleep(0.5)
        blocked.released.set()
        data = read_to_end(connection)
    found = [status for status, _, _ in answers(data)]
    assert set(found[:-1]) == {100}
    assert found[-1] == 200


def test_a_client_that_sends_no_more_in_the_middle_of_a_request_is_gone(server: Listening) -> None:
    for end in (LIVEZ[:-2], POST + b"Content-Length: 9\r\n\r\n1234", CHUNKED + b"5\r\n12"):
        with server.connect() as connection:
            connection.sendall(LIVEZ + end)
            connection.shutdown(socket.SHUT_WR)
            assert [status for status, _, _ in answers(read_to_end(connection))] == [200]


def test_pages_of_other_origins_can_read_refusals_too(tiny: Path) -> None:
    origin = b"Origin: https://clinic.example\r\n"
    with listening(tiny, cors_origins="https://clinic.example", max_connections=1) as server:
        data = ask(server, POST + origin + b"Transfer-Encoding: gzip, chunked\r\n\r\n")
        assert_refused(data, 400, "malformed-request")
        assert answers(data)[0][1]["access-control-allow-origin"] == "https://clinic.example"
        data = ask(server, POST + b"Origin: https://other.example\r\nTransfer-Encoding: x, chunked\r\n\r\n")
        assert "access-control-allow-origin" not in answers(data)[0][1]


def test_the_time_of_a_request_begins_with_its_first_byte(tiny: Path) -> None:
    with listening(tiny, request_timeout=1, header_timeout=20, min_upload_rate=0) as server:
        head = POST + b"Content-Length: 10\r\n\r\n"
        begin = time.monotonic()
        data = ask(server, head[:10], head[10:], pause=1.2)
        assert_refused(data, 504, "deadline-passed")
        assert time.monotonic() - begin < 2  # no second more from the end of its headers


# Slow bodies and clients that are gone


def test_a_body_that_comes_in_drops_is_408_and_ends_the_connection(server: Listening) -> None:
    data = ask(server, POST + b"Content-Length: 1000\r\n\r\n", *[b"\xff"] * 30, pause=0.05)
    assert_refused(data, 408, "upload-too-slow")


def test_a_body_that_keeps_the_rate_may_take_longer_than_the_grace(server: Listening, jpeg: bytes) -> None:
    head = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n"
    body = jpeg + b"\0" * (100_000 - len(jpeg))
    pieces = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
    data = ask(server, head % len(body), *pieces, pause=0.1)
    assert [status for status, _, _ in answers(data)] == [200]


def test_a_body_arrives_whole_however_much_of_it_comes_at_once_and_whatever_follows(
    server: Listening, jpeg: bytes
) -> None:
    large = jpeg + b"\0" * 1_500_000
    stated = POST + b"Content-Length: %d\r\n\r\n" % len(large) + large
    in_chunks = CHUNKED + b"%x\r\n" % len(large) + large + b"\r\n0\r\n\r\n"
    found = answers(ask(server, stated + in_chunks + stated[:300_000], stated[300_000:] + LIVEZ + LAST))
    assert [status for status, _, _ in found] == [200] * 5
    said = [json.loads(body)["probabilities"] for _, _, body in found[:3]]
    assert said[0] == said[1] == said[2]


def test_a_client_that_leaves_while_sending_leaves_nothing(server: Listening) -> None:
    for end in (CHUNKED + b"ff\r\nab", POST + b"Content-Length: 1000\r\n\r\nab", b"GET /li", LIVEZ):
        with server.connect() as connection:
            connection.sendall(end)


def test_a_client_that_resets_a_connection_at_rest_leaves_nothing(tiny: Path) -> None:
    with listening(tiny) as server:
        with server.connect() as connection:
            connection.sendall(LIVEZ)
            data = b""
            while b"alive" not in data:
                data += connection.recv(4096)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_for(lambda: server.sample("connections") == 0)

        def held() -> int:
            gc.collect()
            found = [thing for thing in gc.get_objects() if isinstance(thing, Connection)]
            return sum(protocol.metrics is server.runtime.metrics for protocol in found)

        wait_for(lambda: held() == 0)


# Clients that do not read


def test_a_client_that_does_not_read_its_answers_is_cut_off(tiny: Path) -> None:
    with listening(tiny, write_timeout=0.5) as server, server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.5)
        with contextlib.suppress(OSError):  # in time, all buffers between here and there are full
            while True:
                connection.sendall(LARGE * 100)
        wait_for(lambda: server.sample("connections") == 0)
        assert [status for status, _, _ in answers(ask(server, LAST))] == [200]


def test_a_client_that_stops_reading_for_a_moment_gets_all_and_is_forgiven(tiny: Path) -> None:
    with listening(tiny, write_timeout=2) as server, server.connect() as connection:
        connection.sendall(LARGE * 8)  # more than the buffers between here and there hold
        time.sleep(0.5)
        data = bytearray()
        while data.count(b"HTTP/1.1 200 OK") < 8:
            data += connection.recv(4_000_000)
        time.sleep(2.2)  # the time that it had
        connection.sendall(LAST)
        data += read_to_end(connection)
        assert [status for status, _, _ in answers(bytes(data))] == [200] * 9
