"""The clients against small servers that misbehave in ways a real one would."""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bench.load import Load, Measured, due_times, fault, multipart, run
from models.labels import HAM10000_LABELS

RIGHT = json.dumps({"probabilities": {label.code: 1 / 7 for label in HAM10000_LABELS}}).encode()

Answering = Callable[[int, bytes], Awaitable[bytes]]
"""Number of the request and its body, to the whole answer."""


def http(body: bytes, status: str = "200 OK", head: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


def measured(answering: Answering, images: str, **load: Any) -> Measured:
    """Load a server that answers as ``answering`` says."""
    spec: dict[str, Any] = {"images": images, "seconds": 0.2, "warm_up": 0.0} | load

    async def both() -> Measured:
        count = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                    body = await reader.readexactly(length)
                    count += 1
                    answer = await answering(count, body)
                    writer.write(answer)
                    if b"Connection: close" in answer:
                        break
            except asyncio.IncompleteReadError:
                pass  # the client has gone
            finally:
                writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.to_thread(run, Load(port=port, **spec))

    return asyncio.run(both())


@pytest.fixture
def images(tmp_path: Path) -> str:
    (tmp_path / "a.jpg").write_bytes(b"first image")
    (tmp_path / "b.jpg").write_bytes(b"second image")
    return str(tmp_path)


async def right(number: int, body: bytes) -> bytes:
    return http(RIGHT)


def test_an_open_loop_counts_from_when_a_request_was_due(images: str) -> None:
    """A server that stalls for 0.8 s keeps all waiting that came due meanwhile, not one."""
    begin = 0.0

    async def stalled(number: int, body: bytes) -> bytes:
        nonlocal begin
        begin = begin or time.perf_counter()
        await asyncio.sleep(begin + 0.8 - time.perf_counter())
        return http(RIGHT)

    found = measured(stalled, images, rate=40.0, seconds=0.6)
    assert found.requests == 24
    assert found.failed == 0
    # Due evenly within 0.6 s, answered after 0.8 s.
    assert found.p50 >= 0.45
    assert found.p95 >= 0.75


def test_processor_time_of_the_server_is_measured(images: str) -> None:
    async def busy(number: int, body: bytes) -> bytes:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
        return http(RIGHT)

    found = measured(busy, images, clients=1, leader=os.getpid(), seconds=0.5)
    assert found.server_cpu >= 0.04  # server and clients are this test's; Linux counts in hundredths


def test_an_open_loop_leaves_out_what_was_due_while_warming_up(images: str) -> None:
    assert measured(right, images, rate=50.0, seconds=0.2, warm_up=0.2).requests == 10


def test_a_closed_loop_has_as_many_requests_at_a_time_as_clients(images: str) -> None:
    at_once = most = 0

    async def slow(number: int, body: bytes) -> bytes:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return http(RIGHT)

    found = measured(slow, images, clients=5)
    assert most == 5
    assert found.failed == 0
    assert found.requests > 5
    assert found.p50 >= 0.01
    assert 0 < found.throughput <= 500
    assert found.load_cpu > 0


def test_a_closed_loop_can_last_for_a_number_of_requests(images: str) -> None:
    assert measured(right, images, clients=2, requests=30).requests >= 30


def test_images_take_turns_as_raw_bodies_and_as_parts(images: str) -> None:
    seen: set[bytes] = set()

    async def keeping(number: int, body: bytes) -> bytes:
        seen.add(body)
        return http(RIGHT)

    measured(keeping, images, clients=1)
    assert seen == {b"first image", b"second image"}
    seen.clear()
    measured(keeping, images, clients=1, form="multipart")
    assert seen == {multipart(b"first image"), multipart(b"second image")}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (http(b"busy", "503 Service Unavailable"), "status 503: busy"),
        (http(b"{}"), "no probabilities of the 7 classes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\nshort", "IncompleteRead"),
        (b"SSH-2.0\r\n\r\n", "BadStatusLine: SSH-2.0"),
    ],
)
def test_wrong_answers_are_counted_with_their_reason(images: str, answer: bytes, reason: str) -> None:
    async def every_second(number: int, body: bytes) -> bytes:
        return answer if number % 2 else http(RIGHT)

    found = measured(every_second, images, clients=1)
    assert found.failed > 0
    assert [why[: len(reason)] for why in found.reasons] == [reason]
    assert sum(found.reasons.values()) == found.failed < found.requests


def test_an_answer_needs_a_probability_for_each_class() -> None:
    assert fault(200, RIGHT) == ""
    assert "no probabilities" in fault(200, b'{"probabilities": {"mel": 1.0}}')
    assert "no probabilities" in fault(200, b"[]")
    assert "no probabilities" in fault(200, RIGHT.replace(b"0.14", b"0.94"))
    assert fault(500, RIGHT).startswith("status 500")


def test_neither_or_both_kinds_of_loop_are_refused(images: str) -> None:
    for load in ({}, {"clients": 1, "rate": 1.0}):
        with pytest.raises(ValueError, match="expected either clients or rate"):
            measured(right, images, **load)


def test_arrivals_come_at_the_rate_evenly_or_at_random() -> None:
    load: dict[str, Any] = {"port": 0, "images": "", "seconds": 90.0, "warm_up": 10.0, "rate": 10.0}
    even = list(due_times(Load(**load)))
    assert len(even) == 1000
    assert even[1] - even[0] == pytest.approx(0.1)
    random = list(due_times(Load(**load, arrivals="poisson")))
    assert len(random) == pytest.approx(1000, rel=0.15)
    assert random == list(due_times(Load(**load, arrivals="poisson")))
    assert random != list(due_times(Load(**load, arrivals="poisson", seed=2)))


def test_chunks_are_read_and_a_closed_connection_is_opened_again(images: str) -> None:
    async def chunked(number: int, body: bytes) -> bytes:
        if number % 2:
            return http(RIGHT, head="Connection: close\r\n")
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
            len(RIGHT),
            RIGHT,
        )

    found = measured(chunked, images, clients=1)
    assert found.requests > 2
    assert found.failed == 0
