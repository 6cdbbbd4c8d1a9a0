"""``POST /predict/batch?gradcam=true``: an overlay for each image, within the memory for bodies."""

import json
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.inference.onnx_session import OnnxSession
from tests.service.app_client import Client, running, said, wait_for
from tests.service.conftest import JPEG, assert_problem
from tests.service.listening import Listening, listening, read_to_end

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


def test_an_overlay_without_memory_is_a_problem_of_its_image_alone(tiny: Path, jpeg: bytes) -> None:
    size = overlay_size(tiny, jpeg)
    with running(tiny, max_body_bytes=2 * size, max_upload_memory=2 * size) as client:
        results = client.post(OVERLAYS, files=parts(*[jpeg] * 4)).json()["results"]
        assert client.runtime.admission.body_bytes == 0
        held = [result for result in results if result["kind"] == "prediction"]
        assert 1 <= len(held) <= 2
        assert all(result["gradcam"] for result in held)
        refused = [result for result in results if result["kind"] == "problem"]
        assert {result["type"] for result in refused} == {"urn:dermaserve:problem:overloaded"}
        none = client.post("/predict/batch", files=parts(*[jpeg] * 4)).json()["results"]
        assert [result["kind"] for result in none] == ["prediction"] * 4


def test_overlays_take_memory_until_the_client_has_read_them(tiny: Path, jpeg: bytes) -> None:
    with listening(tiny) as server, reader(server) as slow:
        slow.sendall(request(server, jpeg, 32))
        held = wait_unread(server, 33 * len(jpeg))
        head, _, body = read_to_end(slow).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert sum(len(result["gradcam"]["data"]) for result in json.loads(body)["results"]) == held
        wait_for(lambda: server.runtime.admission.body_bytes == 0)


def test_a_client_that_does_not_read_its_overlays_makes_room_for_an_upload(tiny: Path, jpeg: bytes) -> None:
    room = 34 * overlay_size(tiny, jpeg)
    with listening(tiny, max_upload_memory=room, max_body_bytes=room) as server, reader(server) as slow:
        slow.sendall(request(server, jpeg, 32))
        wait_unread(server, 33 * len(jpeg))
        answer = httpx.post(
            f"http://127.0.0.1:{server.port}/predict", content=bytes(room // 2), headers=JPEG, timeout=60
        )
        assert answer.status_code == 415  # read, and no image
        wait_for(lambda: server.runtime.admission.body_bytes == 0)
        head, _, body = read_to_end(slow).partition(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        assert len(body) < int(length.split(b":")[1])


def overlay_size(bundle: Path, jpeg: bytes) -> int:
    with running(bundle) as client:
        answer: dict[str, Any] = client.post("/predict?gradcam=true", content=jpeg, headers=JPEG).json()
    return len(answer["gradcam"]["data"])


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
