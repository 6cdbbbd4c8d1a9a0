"""Requests that are not HTTP, ambiguous or too large are refused; odd but valid ones are answered."""

import pytest

from service.http.request_head import MAX_HEAD_BYTES
from tests.service.http.raw_requests import (
    CHUNKED,
    LAST,
    LIVEZ,
    POST,
    UPGRADE,
    answers,
    ask,
    assert_refused,
    head_of,
    next_client_is_served,
    server,
)
from tests.service.listening import Listening

__all__ = ["next_client_is_served", "server"]  # fixtures


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"hello there\r\n\r\n",
        LIVEZ.replace(b"\r\n", b"\n"),  # bare LF: proxies differ in what they make of it (RFC 9112, 2.2)
        b"GET /livez HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",  # obs-fold (RFC 9112, 5.2)
        b"A" * 9000 + b" /livez HTTP/1.1\r\nHost: x\r\n\r\n",  # the parser knows methods by name
        b"BREW /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n" + LIVEZ,  # what follows is not HTTP
        b"GET /livez HTTP/1.1\r\n\r\n",  # no Host
        b"GET /livez\r\n\r\n",  # HTTP/0.9
        b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        *[b"GET /livez HTTP/%s\r\nHost: x\r\n\r\n" % v + LIVEZ for v in (b"0.9", b"1.2", b"2.0", b"9.9")],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /liv\x00ez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n folded: first\r\nHost: x\r\n\r\n",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + LIVEZ,
        POST + b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",  # obs-fold
        POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n12345",
        POST + b"Content-Length: 5, 5\r\n\r\n12345",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + LIVEZ,
        POST + b"Transfer-Encoding: identity\r\n\r\n",
        POST + b"Content-Length: -5\r\n\r\n12345",
        POST + b"Content-Length: +5\r\n\r\n12345",
        POST + b"Content-Length: 0x5\r\n\r\n12345",
        POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n12345",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"-5\r\n12345\r\n0\r\n\r\n",
        CHUNKED + b"0x5\r\n12345\r\n0\r\n\r\n",
        CHUNKED + b"1_0\r\n12345\r\n0\r\n\r\n",
        CHUNKED + b"\r\n12345\r\n0\r\n\r\n",
        CHUNKED + b"5\n12345\n0\n\n" + LIVEZ,
        CHUNKED + b"F" * 17 + b"\r\n12345",
        CHUNKED + b"5 \r\n12345\r\n0\r\n\r\n",
        CHUNKED + b"5\r\n12345\r\n0\r\nContent-Length: 9\r\n\r\n",  # not a trailer (RFC 9110, 6.5.1)
        # Trailers and extensions are framing: one bound for all that is neither head nor body.
        CHUNKED + b"0\r\nA: " + b"x" * 60_000,
        CHUNKED + b"5;" + b"x" * 60_000,
        CHUNKED + b"5\r\n123456\r\n0\r\n\r\n",
        CHUNKED + b"0\r\nno trailer\r\n\r\n",
        POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        CHUNKED.replace(b"POST /predict", b"GET /livez") + b"zz\r\n",
        CHUNKED.replace(b"POST /predict", b"HEAD /livez") + b"zz\r\n",
        CHUNKED + b"1\r\nx\r\n" * 100_000,
        CHUNKED + b"8\r\n12345678\r\n" * 50_000,
        CHUNKED + (b"1;" + b"e" * 8000 + b"\r\nx\r\n") * 20,
    ],
)
def test_what_is_no_http_is_400(server: Listening, request_: bytes) -> None:
    before = server.sample("requests_total", route="unmatched", status="400")
    assert_refused(ask(server, request_), 400, "malformed-request")
    assert server.sample("requests_total", route="unmatched", status="400") == before + 1


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 60_000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 4_000_000,
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 10_000 + b"\r\n",
        b"GET /" + b"x" * 30_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"x" * MAX_HEAD_BYTES,
        head_of(MAX_HEAD_BYTES + 1),
    ],
)
def test_headers_over_the_limit_are_431(server: Listening, request_: bytes) -> None:
    assert_refused(ask(server, request_), 431, "headers-too-large")
    assert server.sample("requests_total", route="unmatched", status="431") >= 1


@pytest.mark.parametrize(
    ("request_", "statuses"),
    [
        (head_of(MAX_HEAD_BYTES), [200]),
        (b"\r\n\r\n" + LIVEZ, [200]),  # RFC 9112, 2.2
        (b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", [200]),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", [200]),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345", [200]),
        (b"GET http://x/livez HTTP/1.1\r\nHost: x\r\n\r\n", [200]),  # RFC 9112, 3.2.2
        (b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", [200]),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", [404]),
        (b"GET /%ff%00%zz HTTP/1.1\r\nHost: x\r\n\r\n", [404]),
        (POST + UPGRADE + b"Content-Length: 5\r\n\r\n12345" + LIVEZ, [415, 200]),
        (POST + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n" + LIVEZ, [415, 200]),
        (LIVEZ.replace(b"\r\n\r\n", b"\r\n" + UPGRADE + b"\r\n") + LIVEZ, [200, 200]),
        (POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n12345", [100, 415]),
        (CHUNKED + b"5;a=b;c\r\n12345\r\n0\r\n\r\n", [415]),
        (CHUNKED + b"5\r\n12345\r\n0\r\nX-Request-ID: trailer\r\nX: y\r\n\r\n", [415]),  # trailers
        (CHUNKED + (b"200\r\n" + b"x" * 512 + b"\r\n") * 20_000 + b"0\r\n\r\n", [415]),
        (CHUNKED + b"F" * 16 + b"\r\n12345", [408]),
    ],
)
def test_what_is_odd_but_one_thing_is_answered_as_that(
    server: Listening, request_: bytes, statuses: list[int]
) -> None:
    data = ask(server, request_ + LAST)
    found = [status for status, _, _ in answers(data)]
    assert found[: len(statuses)] == statuses
    assert found[len(statuses) :] in ([], [200])  # its connection is closed, or goes on as if nothing was


def test_the_limit_on_headers_does_not_depend_on_how_they_arrive(server: Listening) -> None:
    whole, more = head_of(MAX_HEAD_BYTES), head_of(MAX_HEAD_BYTES + 1)
    for pieces in ([whole[:1], whole[1:5000], whole[5000:]], [whole[:-1], whole[-1:]]):
        assert [status for status, _, _ in answers(ask(server, *pieces, LAST, pause=0.02))] == [200, 200]
    assert_refused(ask(server, more[:9000], more[9000:], pause=0.02), 431, "headers-too-large")
    body = POST + b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000
    assert [status for status, _, _ in answers(ask(server, body + whole + LAST))] == [415, 200, 200]


def test_garbage_is_refused_after_the_requests_before_it(server: Listening, jpeg: bytes) -> None:
    good = POST + b"Content-Length: %d\r\n\r\n" % len(jpeg) + jpeg
    found = answers(ask(server, good + LIVEZ + b"garbage\r\n\r\n"))
    assert [status for status, _, _ in found] == [200, 200, 400]
    found = answers(ask(server, good + CHUNKED + b"zz\r\n"))
    assert [status for status, _, _ in found] == [200, 400]


def test_what_follows_a_request_that_ends_the_connection_is_ignored(server: Listening) -> None:
    for last in (LAST, b"GET /livez HTTP/1.0\r\n\r\n"):
        assert [status for status, _, _ in answers(ask(server, last + LIVEZ + b"garbage"))] == [200]


def test_trailers_are_no_headers(server: Listening) -> None:
    trailer = b"X-Request-ID: from-a-trailer\r\n"
    data = ask(server, CHUNKED + b"5\r\n12345\r\n0\r\n" + trailer + b"\r\n" + LAST)
    assert [status for status, _, _ in answers(data)] == [415, 200]
    assert b"from-a-trailer" not in data
