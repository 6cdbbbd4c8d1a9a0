"""``POST /predict/batch?gradcam=true``: an overlay for each image, within the memory for bodies."""

import base64
import contextlib
import http.client
import json
import logging
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from service.admission.admission import Admission
from service.inference.onnx_session import OnnxSession
from tests.service.admission.test_admission import Upload
from tests.service.app_client import Client, running, said, wait_for
from tests.service.conftest import JPEG, assert_problem
from tests.service.listening import Listening, listening

OVERLAYS = "/predict/batch?gradcam=true"


def parts(*images: bytes) -> list[tuple[str, bytes]]:
    return [("files", image) for image in images]


def test_each_prediction_of_a_batch_has_the_overlay_of_a_single_request(client: Client, jpeg: bytes) -> None:
    single = client.post("/predict?gradcam=true", content=jpeg, headers=JPEG).json()
    response = client.post(OVERLAYS, files=parts(jpeg, b"no image", jpeg))
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-model"]
    assert int(response.headers["content-length"]) == len(response.content)
    first, refused, last = response.json()["results"]
    assert first["gradcam"] == last["gradcam"] == single["gradcam"]
    assert [result["index"] for result in (first, refused, last)] == [0, 1, 2]
    assert (refused["kind"], refused["status"]) == ("problem", 415)
    named = client.post(f"{OVERLAYS}&gradcam_class=df", files=parts(jpeg)).json()["results"]
    assert [result["gradcam"]["label"] for result in named] == ["df"]
    without = client.post("/predict/batch", files=parts(jpeg)).json()["results"]
    assert [result["gradcam"] for result in without] == [None]


@pytest.mark.parametrize("query", ["gradcam_class=mel", "gradcam=true&gradcam_class=melanoma"])
def test_a_class_needs_an_overlay_and_must_be_known(client: Client, jpeg: bytes, query: str) -> None:
    response = client.post(f"/predict/batch?{query}", files=parts(jpeg))
    assert_problem(response, 422, "invalid-request")
    assert [fault["parameter"] for fault in response.json()["errors"]] == ["gradcam_class"]


def test_an_empty_overlay_of_a_batch_has_a_warning(
    client: Client, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxSession, "run", lambda *_: said([1 / 7] * 7))
    (result,) = client.post(OVERLAYS, files=parts(jpeg)).json()["results"]
    assert "empty_heatmap" in [warning["code"] for warning in result["warnings"]]


def test_an_overlay_without_memory_is_left_out_and_its_prediction_stays(tiny: Path, jpeg: bytes) -> None:
    size = overlay_size(tiny, jpeg)
    with running(tiny, max_body_bytes=6 * size, max_upload_memory=6 * size) as client:
        results = client.post(OVERLAYS, files=parts(*[jpeg] * 4)).json()["results"]
        assert client.runtime.admission.body_bytes == 0
        assert [result["kind"] for result in results] == ["prediction"] * 4
        omitted = [result for result in results if result["gradcam"] is None]
        assert 1 <= len(omitted) <= 3
        codes = [[warning["code"] for warning in result["warnings"]] for result in results]
        assert sum("overlay_omitted" in found for found in codes) == len(omitted)
        assert all("overlay_omitted" in codes[result["index"]] for result in omitted)
        counted = f'dermaserve_warnings_total{{code="overlay_omitted"}} {len(omitted)}.0'
        assert counted in client.get("/metrics").text


def test_an_overlay_that_cannot_be_drawn_is_left_out(
    client: Client, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("service.inference.classifier.draw_overlay", none_left)
    (result,) = client.post(OVERLAYS, files=parts(jpeg)).json()["results"]
    assert (result["kind"], result["gradcam"]) == ("prediction", None)
    assert "overlay_omitted" in [warning["code"] for warning in result["warnings"]]


def test_no_overlay_is_drawn_before_it_has_room(
    tiny: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = overlay_size(tiny, jpeg)
    drawn: list[object] = []
    monkeypatch.setattr("service.inference.classifier.draw_overlay", lambda *pixels: drawn.append(pixels))
    with running(tiny, max_body_bytes=room, max_upload_memory=room) as client:
        (result,) = client.post(OVERLAYS, files=parts(jpeg)).json()["results"]
        assert "overlay_omitted" in [warning["code"] for warning in result["warnings"]]
        assert client.runtime.admission.body_bytes == 0
    assert not drawn


def test_overlays_end_no_upload_and_leave_it_half_of_the_memory(tiny: Path, jpeg: bytes) -> None:
    room = 20 * overlay_size(tiny, jpeg)
    with running(tiny, max_upload_memory=room, max_body_bytes=room, min_upload_rate=0) as client:
        # An upload that does not go on holds just over half.
        upload = Upload(client, jpeg + bytes(room // 2 - len(jpeg)))
        results = client.post(OVERLAYS, files=parts(jpeg, jpeg)).json()["results"]
        assert [result["gradcam"] for result in results] == [None, None]
        assert upload.finish().status_code == 200


def test_overlays_take_memory_until_the_client_has_read_them(tiny: Path, jpeg: bytes) -> None:
    with listening(tiny) as server, reader(server) as slow:
        slow.sendall(request(server, jpeg, 32))
        held = wait_unread(server, 25 * overlay_size(tiny, jpeg))
        answer = answer_of(slow)
        assert answer.status == 200
        results = json.loads(answer.read())["results"]
        sizes = [len(base64.b64decode(result["gradcam"]["data"])) for result in results]
        assert sum(sizes) - 3 * max(sizes) <= held <= sum(sizes)
        wait_for(lambda: server.runtime.admission.body_bytes == 0)


def test_a_client_that_takes_too_long_to_read_all_overlays_is_cut_off(tiny: Path, jpeg: bytes) -> None:
    piece = size_of_result(tiny, jpeg) // 2
    with listening(tiny, write_timeout=1) as server, reader(server) as slow:
        slow.sendall(request(server, jpeg, 32))
        answer, received = answer_of(slow), 0
        with contextlib.suppress(OSError, http.client.IncompleteRead):
            while data := answer.read(piece):  # each overlay takes 0.2 s
                received += len(data)
                time.sleep(0.1)
        assert received < int(answer.headers["content-length"]) // 2
        wait_for(lambda: server.sample("connections") == server.runtime.admission.body_bytes == 0)


def test_a_client_that_does_not_read_its_overlays_makes_room_for_an_upload(
    tiny: Path, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    room = 70 * overlay_size(tiny, jpeg)
    with listening(tiny, max_upload_memory=room, max_body_bytes=room) as server, reader(server) as slow:
        slow.sendall(request(server, jpeg, 32))
        wait_unread(server, room // 3)
        answer = httpx.post(
            f"http://127.0.0.1:{server.port}/predict", content=bytes(room * 3 // 4), headers=JPEG, timeout=60
        )
        assert answer.status_code == 415  # read, and no image
        wait_for(lambda: server.runtime.admission.body_bytes == 0)
        cut = answer_of(slow)
        assert cut.status == 200
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            cut.read()  # so the client knows that something is missing
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line == "A client that read its response slowly was cut off: the memory was needed."


def test_a_client_of_http_1_0_can_read_overlays(tiny: Path, jpeg: bytes) -> None:
    with listening(tiny) as server, reader(server) as old:
        old.sendall(request(server, jpeg, 3).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        answer = answer_of(old)
        assert "transfer-encoding" not in answer.headers
        assert len(json.loads(answer.read())["results"]) == 3


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time for admission, in its one element."""
    now = [0.0]
    monkeypatch.setattr("service.admission.admission.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_overlays_that_are_not_read_make_room_for_those_of_others(now: list[float]) -> None:
    admission, stopped = Admission(max_requests=8, max_body_bytes=200), []
    with admission.reserve() as unread, admission.reserve() as asker:
        assert unread.add_result(100)
        assert not asker.add_result(10)  # they are not being sent yet
        with unread.transfer(lambda: stopped.append("unread")):
            assert not asker.add_result(10)  # they may be read in time
            now[0] = 6
            assert not asker.add_result(101)  # would not fit even then
            assert not stopped
            assert asker.add_result(10)
            unread.release(50)  # of the piece that was being sent
        assert (stopped, admission.body_bytes) == (["unread"], 10)
    assert admission.body_bytes == 0


def test_overlays_that_nobody_reads_make_room_before_those_that_are_read(now: list[float]) -> None:
    admission, stopped = Admission(max_requests=8, max_body_bytes=200), []
    with admission.reserve() as unread, admission.reserve() as slow, admission.reserve() as asker:
        assert unread.add_result(50)
        assert slow.add_result(50)
        with (
            unread.transfer(lambda: stopped.append("unread")),
            slow.transfer(lambda: stopped.append("slow")),
        ):
            for now[0] in (0.8, 1.6):
                slow.advance(1)
            assert not asker.add_result(60)  # would take both
            assert asker.add_result(50)
    assert stopped == ["unread"]


def test_results_that_are_read_fast_give_way_to_a_slow_upload(now: list[float]) -> None:
    admission, stopped = Admission(max_requests=8, max_body_bytes=200), []
    with admission.reserve() as result, admission.reserve() as upload:
        assert result.add_result(90)
        with result.transfer(lambda: stopped.append("result")), upload.transfer(lambda: None):
            result.moved = 1_000_000
            now[0] = 1
            upload.grow_to(150)
        assert (stopped, admission.body_bytes) == (["result"], 150)


def answer_of(connection: socket.socket) -> http.client.HTTPResponse:
    """Return the response whose head is read from ``connection``."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response


def overlay_size(bundle: Path, jpeg: bytes) -> int:
    with running(bundle) as client:
        answer: dict[str, Any] = client.post("/predict?gradcam=true", content=jpeg, headers=JPEG).json()
    return len(base64.b64decode(answer["gradcam"]["data"]))


def size_of_result(bundle: Path, jpeg: bytes) -> int:
    """Bytes of the JSON of one prediction with its overlay."""
    with running(bundle) as client:
        return len(client.post(OVERLAYS, files=parts(jpeg)).content)


def reader(server: Listening) -> socket.socket:
    """A connection whose client takes little before it reads."""
    server.shrink_send_buffers()
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", server.port))
    return connection


def wait_unread(server: Listening, more_than: int) -> int:
    """Wait until a response is being sent that takes more bytes than its request. Return the bytes."""
    admission = server.runtime.admission
    wait_for(
        lambda: bool(admission.transfers) and not admission.requests and admission.body_bytes > more_than
    )
    return admission.body_bytes


def request(server: Listening, jpeg: bytes, images: int) -> bytes:
    """A request for the overlays of ``images`` copies, after whose answer the connection ends."""
    built = httpx.Request("POST", f"http://127.0.0.1:{server.port}{OVERLAYS}", files=parts(*[jpeg] * images))
    lines = "".join(f"{name}: {value}\r\n" for name, value in built.headers.items())
    head = f"POST {OVERLAYS} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n"
    return head.encode() + built.read()
