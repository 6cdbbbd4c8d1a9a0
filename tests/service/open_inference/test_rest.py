"""The Open Inference Protocol over HTTP: it says what ``POST /predict`` says."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.api.openapi import API_VERSION
from tests.service.api.test_operations import samples
from tests.service.app_client import Client, running
from tests.service.conftest import JPEG
from tests.service.open_inference.messages import (
    HEADER,
    INFER,
    MODEL,
    assert_error,
    assert_same,
    elements,
    files_input,
    found,
    in_binary,
    pixels_input,
)
from tests.synthetic import draw_lesion, encoded
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    """Images that the model reads differently, all of one size."""
    drawn = [draw_lesion(np.random.default_rng(seed), code=code) for seed, code in ((1, "mel"), (2, "nv"))]
    size = drawn[0].size
    return [*drawn, Image.new("RGB", size, (200, 40, 90))]


@pytest.fixture(scope="module")
def files(images: list[Image.Image]) -> list[bytes]:
    return [encoded(images[0], "JPEG", quality=90), encoded(images[1], "PNG"), encoded(images[2], "WEBP")]


@pytest.fixture(scope="module")
def pixels(files: list[bytes]) -> np.ndarray:
    """The pixels that are in the files."""
    return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])


def predictions(client: Client, *files: bytes) -> list[dict[str, Any]]:
    answer = client.post("/predict/batch", files=[("files", file) for file in files])
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    assert [result["kind"] for result in results] == ["prediction"] * len(files)
    return results


def test_files_in_json_get_what_predict_says(client: Client, files: list[bytes]) -> None:
    one = client.post("/predict", content=files[0], headers=JPEG).json()
    assert_same(found(client.post(INFER, json={"inputs": [files_input(files[0])]})), [one])
    all_files = found(client.post(INFER, json={"inputs": [files_input(*files)]}))
    assert_same(all_files, predictions(client, *files))
    assert len(set(map(tuple, all_files["probabilities"]))) == len(files)


@pytest.mark.parametrize("binary_output", [False, True])
def test_files_in_binary_get_what_predict_says(
    client: Client, files: list[bytes], binary_output: bool
) -> None:
    asked = {"parameters": {"binary_data_output": binary_output}}
    response = client.post(INFER, **in_binary(files_input(*files), elements(*files), **asked))
    assert_same(found(response), predictions(client, *files))
    assert (HEADER in response.headers) == binary_output
    media_type = "application/octet-stream" if binary_output else "application/json"
    assert response.headers["content-type"] == media_type


def test_pixels_get_what_predict_says_of_a_file_with_them(client: Client, pixels: np.ndarray) -> None:
    lossless = [encoded(Image.fromarray(image), "PNG") for image in pixels]
    said = predictions(client, *lossless)
    assert_same(found(client.post(INFER, **in_binary(pixels_input(pixels), pixels.tobytes()))), said)
    flat = client.post(INFER, json={"inputs": [pixels_input(pixels[:1])]})
    assert_same(found(flat), said[:1])
    nested = client.post(INFER, json={"inputs": [pixels_input(pixels[:1], data=pixels[:1].tolist())]})
    assert_same(found(nested), said[:1])


def test_pixels_of_any_size_are_cropped_and_scaled_as_a_file(client: Client) -> None:
    rng = np.random.default_rng(3)
    for height, width in ((1, 1), (224, 224), (100, 333), (1201, 700)):
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        response = client.post(INFER, **in_binary(pixels_input(image[None]), image.tobytes()))
        assert_same(found(response), predictions(client, encoded(Image.fromarray(image), "PNG")))


def test_a_grey_model_takes_one_channel(tmp_path: Path, images: list[Image.Image]) -> None:
    bundle = write_tiny_bundle(tmp_path, color="grey")
    grey = images[0].convert("L")
    array = np.asarray(grey)[None, :, :, None]
    with running(bundle.path) as client:
        response = client.post(INFER, **in_binary(pixels_input(array), array.tobytes()))
        assert_same(found(response), predictions(client, encoded(grey, "PNG")))
        assert client.get(MODEL).json()["inputs"][0]["shape"] == [-1, -1, -1, 1]
        colour = np.asarray(images[0])[None]
        refused = client.post(INFER, **in_binary(pixels_input(colour), colour.tobytes()))
        assert_error(refused, 422, "expected the shape [N, H, W, 1]")


def test_the_heatmaps_are_those_of_the_graph(client: Client, files: list[bytes]) -> None:
    outputs = found(client.post(INFER, json={"inputs": [files_input(*files)]}))
    assert outputs["cams"].shape == (3, 7, 7, 7)
    assert outputs["cams"].max() > 0
    assert (outputs["cams"] >= 0).all()


def test_outputs_are_returned_as_they_are_asked_for(client: Client, files: list[bytes]) -> None:
    wanted = [{"name": "flag"}, {"name": "label", "parameters": {"binary_data": True}}]
    response = client.post(INFER, json={"id": "mine", "inputs": [files_input(files[0])], "outputs": wanted})
    outputs = found(response)
    assert list(outputs) == ["flag", "label"]
    body = json.loads(response.content[: int(response.headers[HEADER])])
    assert body["outputs"][0]["data"] == outputs["flag"]
    assert "data" not in body["outputs"][1]
    assert (body["model_name"], body["model_version"], body["id"]) == ("tiny-test-bundle", "0.0.1", "mine")


def test_binary_may_be_refused_for_one_output(client: Client, files: list[bytes]) -> None:
    wanted = [{"name": "flag", "parameters": {"binary_data": False}}, {"name": "label"}]
    asked = {"outputs": wanted, "parameters": {"binary_data_output": True}}
    response = client.post(INFER, json={"inputs": [files_input(files[0])], **asked})
    body = json.loads(response.content[: int(response.headers[HEADER])])
    assert ["data" in output for output in body["outputs"]] == [True, False]
    assert list(found(response)) == ["flag", "label"]


def test_members_may_be_null_and_unknown_ones_are_ignored(client: Client, files: list[bytes]) -> None:
    """MLServer's codecs send null, a content type, and a shape of their own for base64."""
    tensor = files_input(files[0], shape=[1, 1], parameters={"content_type": "base64"}, extra=1)
    request = {"id": None, "parameters": None, "outputs": None, "inputs": [tensor], "extra": [2]}
    response = client.post(INFER, json=request)
    assert len(found(response)["label"]) == 1
    assert response.json()["id"] == response.headers["x-request-id"]


def test_binary_elements_may_be_base64(client: Client, files: list[bytes]) -> None:
    tensor = files_input(files[0])
    raw = elements(*(text.encode() for text in tensor["data"]))
    parameters = {"content_type": "base64", "binary_data_size": len(raw)}
    response = client.post(INFER, **in_binary(tensor | {"parameters": parameters}, raw))
    assert_same(found(response), predictions(client, files[0]))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("metadata"), metadata=True)
    with running(bundle.path) as client:
        yield client


def test_metadata_is_used_as_in_predict(
    reader: Client, files: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    metadata = '[{"age": 55, "sex": "female", "site": "back"}, null]'
    form = [("files", file) for file in files[:2]]
    said = reader.post("/predict/batch", files=form, data={"metadata": metadata}).json()["results"]
    assert said[0]["metadata_used"]
    with caplog.at_level(logging.DEBUG):
        request = {"inputs": [files_input(*files[:2])], "parameters": {"metadata": metadata}}
        assert_same(found(reader.post(INFER, json=request)), said)
    assert "female" not in caplog.text
    for bad, why in (("[]", "one entry for each of the 2 images"), ("{", "JSON array"), (7, "a text")):
        request["parameters"] = {"metadata": bad}
        assert_error(reader.post(INFER, json=request), 422, why)


def test_the_model_is_described(client: Client) -> None:
    body = client.get(MODEL).json()
    assert client.get(f"{MODEL}/versions/0.0.1").json() == body
    assert (body["name"], body["versions"]) == ("tiny-test-bundle", ["0.0.1"])
    assert [(t["name"], t["datatype"], t["shape"]) for t in body["inputs"]] == [
        ("image", "UINT8", [-1, -1, -1, 3]),
        ("image_bytes", "BYTES", [-1]),
    ]
    manifest = client.runtime.classifier.manifest
    names = [output["name"] for output in body["outputs"]]
    assert names == [*manifest.outputs, "label", "malignancy", "flag", "warnings"]


def test_the_outputs_have_the_datatypes_and_shapes_of_the_metadata(
    client: Client, files: list[bytes]
) -> None:
    said = {output["name"]: output for output in client.get(MODEL).json()["outputs"]}
    given = client.post(INFER, json={"inputs": [files_input(*files)]}).json()["outputs"]
    assert [output["name"] for output in given] == list(said)
    for output in given:
        described = said[output["name"]]
        assert output["datatype"] == described["datatype"]
        pairs = list(zip(output["shape"], described["shape"], strict=True))
        assert all(expected in (-1, size) for size, expected in pairs)


def test_health_and_server_are_told_without_and_with_the_model(client: Client, tiny: Path) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}
    assert client.get(f"{MODEL}/ready").json() == {"name": "tiny-test-bundle", "ready": True}
    assert client.get(f"{MODEL}/versions/0.0.1/ready").status_code == 200
    assert client.get("/v2").json() == {
        "name": "dermaserve",
        "version": API_VERSION,
        "extensions": ["binary_tensor_data"],
    }


def test_a_server_that_drains_is_live_and_not_ready(tiny: Path, jpeg: bytes) -> None:
    with running(tiny) as client:
        client.runtime.drain()
        assert client.get("/v2/health/live").status_code == 200
        assert_error(client.get("/v2/health/ready"), 503, "shutting down")
        assert_error(client.get(f"{MODEL}/ready"), 503, "shutting down")
        assert client.post(INFER, json={"inputs": [files_input(jpeg)]}).status_code == 200


def test_requests_are_counted_by_route_and_image(client: Client, files: list[bytes]) -> None:
    def counted() -> tuple[float, float]:
        now = samples(client)
        classified = sum(v for k, v in now.items() if k.startswith("dermaserve_predictions_total"))
        route = "dermaserve_requests_total route=/v2/models/{name}/infer status=200"
        return now.get(route, 0), classified

    before = counted()
    client.post(INFER, json={"inputs": [files_input(*files)]})
    after = counted()
    assert (after[0] - before[0], after[1] - before[1]) == (1, 3)


def test_responses_name_the_model(client: Client, files: list[bytes]) -> None:
    for response in (client.get(MODEL), client.post(INFER, json={"inputs": [files_input(files[0])]})):
        assert response.headers["x-model"] == "tiny-test-bundle/0.0.1"
