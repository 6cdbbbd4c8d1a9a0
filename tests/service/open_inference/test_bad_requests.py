"""Requests of the Open Inference Protocol that are refused, and what their clients read."""

import json
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import CorruptImage
from service.admission.api_keys import line_of
from service.errors import NoMemory
from service.open_inference.inference import Inference
from tests.service.admission.keyed import NORTH, sent, write
from tests.service.app_client import Client, running, wait_for
from tests.service.blocked_inference import BlockedInference
from tests.service.conftest import JPEG
from tests.service.open_inference.messages import (
    HEADER,
    INFER,
    MODEL,
    assert_error,
    elements,
    files_input,
    found,
    in_binary,
    pixels_input,
)

BLACK = np.zeros((2, 8, 9, 3), np.uint8)

pytestmark = pytest.mark.usefixtures("next_is_answered")


def change(**changes: Any) -> dict[str, Any]:
    return {"inputs": [pixels_input(BLACK, **changes)]}


FILES = files_input(b"x", b"y")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ([], "valid dictionary"),
        ({}, "inputs: Field required"),
        ({"inputs": []}, "expected one of image and image_bytes"),
        ({"inputs": [pixels_input(BLACK), FILES]}, "expected one of image and image_bytes"),
        (change(name="picture"), "expected one of image and image_bytes"),
        (change(name="image" * 20), "inputs[0].name"),
        (change(datatype="FP32"), "image: expected the datatype UINT8"),
        (change(shape=[2, 3, 8, 9]), "expected the shape [N, H, W, 3] with N from 1 to 32"),
        (change(shape=[8, 9, 3]), "expected the shape [N, H, W, 3]"),
        (change(shape=[2, 8, 10, 3]), "the shape needs 480 bytes, got 432"),
        (change(shape=[2**31 - 1] * 3 + [3]), "with N from 1 to 32"),
        (change(shape=[32, 2**31 - 1, 2**31 - 1, 3]), "the shape needs"),
        (change(shape=[33, 8, 9, 3]), "with N from 1 to 32"),
        (change(shape=[0, 8, 9, 3]), "inputs[0].shape[0]"),
        (change(shape=[-1, 8, 9, 3]), "inputs[0].shape[0]"),
        (change(shape=[2.0, 8, 9, 3]), "inputs[0].shape[0]"),
        (change(shape=[2**70, 8, 9, 3]), "inputs[0].shape[0]"),
        (change(shape=[1] * 9), "inputs[0].shape"),
        (change(shape="2,8,9,3"), "inputs[0].shape"),
        (change(data=[256] * 432), "whole numbers from 0 to 255"),
        (change(data=[-1] * 432), "whole numbers from 0 to 255"),
        (change(data=[0.5] * 432), "whole numbers from 0 to 255"),
        (change(data=["0"] * 432), "whole numbers from 0 to 255"),
        (change(data=[None] * 432), "whole numbers from 0 to 255"),
        (change(data=[0] * 431), "got 431"),
        (change(data=[]), "got 0"),
        (change(data=BLACK[0].tolist()), "flat, or nested as the shape says"),
        (change(data=[[0] * 216, [0] * 216]), "flat, or nested as the shape says"),
        (change(data=[[[[0, 0, 0]] * 9] * 8, 7]), "flat, or nested as the shape says"),
        (change(data="AAAA"), "inputs[0].data"),
        (change(data=None), "either data or the parameter binary_data_size"),
        (change(parameters={"binary_data_size": 432}), "either data or the parameter binary_data_size"),
        (change(parameters={"shared_memory_region": "a"}), "shared memory is not supported"),
        (change(parameters=[]), "inputs[0].parameters"),
        ({"inputs": [FILES | {"datatype": "UINT8"}]}, "image_bytes: expected the datatype BYTES"),
        ({"inputs": [FILES | {"shape": [3]}]}, "the shape needs 3 elements"),
        ({"inputs": [FILES | {"shape": [2, 2]}]}, "expected the shape [N] with N"),
        ({"inputs": [FILES | {"shape": [33]}]}, "N from 1 to 32"),
        ({"inputs": [FILES | {"data": ["////", "é"]}]}, "image_bytes[1]: expected base64"),
        ({"inputs": [FILES | {"data": ["////", "//"]}]}, "image_bytes[1]: expected base64"),
        ({"inputs": [FILES | {"data": ["////", 10**12]}]}, "image_bytes[1]: expected base64"),
        ({"inputs": [FILES | {"data": ["////", ""]}]}, "image_bytes[1]: is empty"),
        ({"inputs": [FILES | {"data": ["////", ["////"]]}]}, "image_bytes[1]: expected base64"),
        ({"inputs": [FILES], "id": "x" * 257}, "id"),
        ({"inputs": [FILES], "outputs": [{"name": "class"}]}, "outputs: expected some of probabilities"),
        ({"inputs": [FILES], "outputs": [{"name": "flag"}] * 2}, "each once"),
        ({"inputs": [FILES], "outputs": [{"name": "flag"}] * 33}, "outputs"),
        (
            {"inputs": [FILES], "outputs": [{"name": "flag", "parameters": {"classification": 2}}]},
            "classification is not supported",
        ),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_the_reason(
    client: Client, request_: Any, said: str
) -> None:
    assert_error(client.post(INFER, json=request_), 422, said)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 422, "The body is empty"),
        (b"not JSON", 422, "The body is not JSON"),
        (b'{"inputs": [', 422, "The body is not JSON"),
        (b'{"inputs": [{"data": [NaN]}]}', 422, "The body is not JSON"),
        (b'{"inputs": "\xff"}', 422, "The body is not JSON"),
        (b"[" * 100_000, 422, "The body is not JSON"),
        (b"1" * 100_000, 422, "The body is not JSON"),
        (b"[" * 300_001, 413, "too many values"),
        (b'{"inputs":[' + b"{}," * 600, 413, "too many values"),
        (b'{"inputs":[' + b"1," * 1_200_001, 413, "too many values"),
        (b'{"inputs":[' + b'"a",' * 3000, 413, "too many values"),
    ],
)
def test_what_is_no_request_is_refused(client: Client, body: bytes, status: int, said: str) -> None:
    assert_error(client.post(INFER, content=body), status, said)


@pytest.mark.parametrize("length", ["", "-1", "1e3", "99999999999", "1000000", "0x10", "²"])
def test_a_wrong_length_of_the_json_is_refused(client: Client, length: str) -> None:
    request = in_binary(pixels_input(BLACK), BLACK.tobytes())
    request["headers"] = {HEADER: length.encode()}
    assert_error(client.post(INFER, **request), 422, "expected one number of bytes")


@pytest.mark.parametrize("change", [-1, 1])
def test_a_length_of_the_json_that_cuts_elsewhere_is_refused(client: Client, change: int) -> None:
    request = in_binary(pixels_input(BLACK), BLACK.tobytes())
    request["headers"] = {HEADER: str(int(request["headers"][HEADER]) + change)}
    assert client.post(INFER, **request).status_code == 422


def test_two_lengths_of_the_json_are_refused(client: Client) -> None:
    request = in_binary(pixels_input(BLACK), BLACK.tobytes())
    request["headers"] = [(HEADER, request["headers"][HEADER])] * 2
    assert_error(client.post(INFER, **request), 422, "expected one number of bytes")


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (433, "does not match the body"),
        (10**30, "does not match the body"),
        (-1, "does not match the body"),
        (True, "does not match the body"),
        ("432", "does not match the body"),
        (431, "1 bytes that belong to no input"),
        (0, "432 bytes that belong to no input"),
    ],
)
def test_a_binary_size_that_lies_is_refused(client: Client, size: Any, said: str) -> None:
    tensor = pixels_input(BLACK, parameters={"binary_data_size": size})
    assert_error(client.post(INFER, **in_binary(tensor, BLACK.tobytes())), 422, said)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "needs 2 elements"),
        (elements(b"x"), "needs 2 elements"),
        (elements(b"x", b"y", b"z"), "needs 2 elements"),
        (bytes(2_000_000), "needs 2 elements"),  # half a million empty elements
        (elements(b"x", b""), "image_bytes[1]: is empty"),
        (elements(b"x") + struct.pack("<I", 2) + b"y", "beyond the end"),
        (elements(b"x") + struct.pack("<I", 2**32 - 1) + b"y", "beyond the end"),
        (elements(b"x") + b"\1\0\0", "beyond the end"),
    ],
)
def test_elements_whose_lengths_lie_are_refused(client: Client, raw: bytes, said: str) -> None:
    assert_error(client.post(INFER, **in_binary(FILES, raw)), 422, said)


def test_images_that_cannot_be_used_are_refused_as_in_predict(client: Client, jpeg: bytes) -> None:
    for file in (jpeg[:3000], b"no image", b"\x89PNG\r\n\x1a\n"):
        single = client.post("/predict", content=file, headers=JPEG).json()
        one = client.post(INFER, json={"inputs": [files_input(file)]})
        assert_error(one, single["status"], single["detail"])
        assert one.json()["type"] == single["type"]
        batch = client.post(INFER, json={"inputs": [files_input(jpeg, file, b"another")]})
        assert_error(batch, single["status"], f"Image 1 of the batch: {single['detail']}")


def test_the_limits_of_bodies_and_pixels_hold(tiny: Path, jpeg: bytes) -> None:
    with running(tiny, max_body_bytes=60_000, max_pixels=5000) as client:
        large = np.zeros((1, 150, 200, 3), np.uint8)
        body = in_binary(pixels_input(large), large.tobytes())
        assert_error(client.post(INFER, **body), 413, "larger than the limit of 60,000 bytes")
        large = large[:, :50, :150]
        body = in_binary(pixels_input(large), large.tobytes())
        assert_error(client.post(INFER, **body), 413, "150 x 50 pixels; at most 5,000")
        assert client.runtime.admission.body_bytes == 0


def test_another_model_or_version_is_unknown(client: Client, jpeg: bytes) -> None:
    request = {"inputs": [files_input(jpeg)]}
    for path in ("/v2/models/other", f"{MODEL}/versions/2.0.0", "/v2/models/%2e%2e"):
        assert_error(client.get(path), 404, "This server has only tiny-test-bundle, version 0.0.1.")
        assert_error(client.get(f"{path}/ready"), 404, "This server has only")
        assert_error(client.post(f"{path}/infer", json=request), 404, "This server has only")
    assert client.post(f"{MODEL}/versions/0.0.1/infer", json=request).status_code == 200
    assert_error(client.get("/v2/nothing"), 404, "nothing at this address")
    assert_error(client.get(INFER), 405, "does not answer that method")


def test_compressed_bodies_are_refused(client: Client, jpeg: bytes) -> None:
    request = {"inputs": [files_input(jpeg)]}
    refused = client.post(INFER, json=request, headers={"content-encoding": "gzip"})
    assert_error(refused, 415, "Compressed bodies")


def test_a_key_is_required_where_predict_requires_one(tiny: Path, tmp_path: Path, jpeg: bytes) -> None:
    path = write(tmp_path / "keys", line_of("north", NORTH))
    request = {"inputs": [files_input(jpeg)]}
    with running(tiny, api_keys_file=path) as client:
        for found_ in (client.get("/v2"), client.get(MODEL), client.post(INFER, json=request)):
            assert_error(found_, 401, "X-API-Key")
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 200
        assert client.post(INFER, json=request, headers=sent(NORTH)).status_code == 200


def test_a_rate_counts_each_image(tiny: Path, jpeg: bytes) -> None:
    with running(tiny, rate_limit=1, rate_burst=3) as client:
        assert client.post(INFER, json={"inputs": [files_input(jpeg, jpeg)]}).status_code == 200
        refused = client.post(INFER, json={"inputs": [files_input(jpeg, jpeg)]})
        assert_error(refused, 429, "1 images per minute")
        assert int(refused.headers["retry-after"]) > 0


def test_a_full_queue_and_a_deadline_are_told(tiny: Path, jpeg: bytes, blocked: BlockedInference) -> None:
    request = {"inputs": [files_input(jpeg)]}
    with running(tiny, max_queue_size=1, request_timeout=1.5) as client:
        blocked.patch()
        first = client.begin("POST", INFER, json=request)
        assert blocked.started.wait(20)
        refused = client.post(INFER, json=request)
        assert_error(refused, 503, "limit of requests in progress")
        assert refused.headers["retry-after"] == "1"
        assert_error(first.result(20), 504, "deadline passed")
        blocked.released.set()
        wait_for(lambda: client.runtime.admission.requests == 0)


def test_a_failure_of_the_model_is_an_internal_error(
    tiny: Path, jpeg: bytes, blocked: BlockedInference
) -> None:
    with running(tiny) as client:
        blocked.released.set()
        blocked.fail_on = {1}
        blocked.patch()
        assert_error(client.post(INFER, json={"inputs": [files_input(jpeg)]}), 500, "request_id")
        blocked.fail_on.clear()


def test_a_failure_of_the_service_is_told_before_a_bad_image(
    client: Client, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = type(client.runtime.classifier)

    async def decode(self: Any, data: bytes, **options: Any) -> Any:
        raise CorruptImage("no") if data == b"bad" else NoMemory()

    monkeypatch.setattr(classifier, "decode", decode)
    refused = client.post(INFER, json={"inputs": [files_input(b"bad", jpeg)]})
    assert_error(refused, 503, "Image 1 of the batch")
    assert int(refused.headers["retry-after"]) > 0
    assert_error(client.post(INFER, json={"inputs": [files_input(jpeg[:9], b"bad")]}), 503, "Image 0")
    assert_error(client.post(INFER, json={"inputs": [files_input(b"bad", b"bad")]}), 422, "Image 0")
    monkeypatch.undo()


def test_the_event_loop_answers_while_a_body_is_parsed(
    client: Client, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()
    parsed = Inference._parsed

    def wait(self: Inference, body: bytes) -> Any:
        began.set()
        assert go_on.wait(20)
        return parsed(self, body)

    monkeypatch.setattr(Inference, "_parsed", wait)
    answer = client.begin("POST", INFER, json={"inputs": [files_input(jpeg)]})
    assert began.wait(20)
    assert client.get("/livez").status_code == 200
    go_on.set()
    assert answer.result(20).status_code == 200


def test_the_text_of_the_images_is_freed_before_they_are_classified(
    client: Client, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[Any] = []
    run = Inference.run
    classifier = type(client.runtime.classifier)

    async def seen(self: Inference, job: Any) -> Any:
        texts.append(self)
        return await run(self, job)

    async def decode(self: Any, data: bytes, **options: Any) -> Any:
        assert texts[-1].request.inputs == []
        raise CorruptImage("no")

    monkeypatch.setattr(Inference, "run", seen)
    monkeypatch.setattr(classifier, "decode", decode)
    assert_error(client.post(INFER, json={"inputs": [files_input(jpeg)]}), 422, "no")
    monkeypatch.undo()


def test_the_memory_of_a_body_is_that_of_its_images(
    client: Client, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what JSON takes more nor what a head of a file takes is counted wrongly."""
    held: list[int] = []
    classifier = type(client.runtime.classifier)

    async def decode(self: Any, data: bytes, **options: Any) -> Any:
        held.append(client.runtime.admission.body_bytes - len(data))
        raise CorruptImage("no")

    monkeypatch.setattr(classifier, "decode", decode)
    one = BLACK[:1]
    for request in (
        {"json": {"inputs": [files_input(jpeg)]}},
        in_binary(pixels_input(one), one.tobytes()),
        {"json": {"inputs": [pixels_input(one)]}},
    ):
        assert client.post(INFER, **request).status_code == 422
    assert held == [0, 0, 0]
    monkeypatch.undo()


def test_a_refused_request_leaves_the_next_one_alone(client: Client, jpeg: bytes) -> None:
    client.post(INFER, content=json.dumps({"inputs": [FILES]})[:40])
    assert found(client.post(INFER, json={"inputs": [files_input(jpeg)]}))["label"]
