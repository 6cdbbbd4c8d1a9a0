"""DICOM files through the API: they are classified like other images, and no patient data leaks."""

import json
import logging
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pydicom import uid

from tests.dicom_files import SECRETS, dicom_file
from tests.service.app_client import Client
from tests.service.conftest import JPEG, assert_problem
from tests.service.process import process
from tests.synthetic import draw_lesion, encoded

DICOM = {"content-type": "application/dicom"}


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return draw_lesion(np.random.default_rng(4), code="bcc", width=300, height=300)


def said(client: Client, content: bytes, headers: dict[str, str]) -> Any:
    response = client.post("/predict", content=content, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("headers", [DICOM, JPEG], ids=["as DICOM", "as JPEG"])
def test_a_photograph_gets_the_prediction_of_the_same_pixels_in_a_png(
    client: Client, picture: Image.Image, headers: dict[str, str]
) -> None:
    answer = said(client, dicom_file(picture), headers)
    expected = said(client, encoded(picture, "PNG"), JPEG)
    assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
    assert answer["warnings"] == expected["warnings"] == []


def test_several_frames_and_burned_in_text_give_warnings(client: Client, picture: Image.Image) -> None:
    answer = said(client, dicom_file(picture, frames=2, BurnedInAnnotation="YES"), DICOM)
    assert [warning["code"] for warning in answer["warnings"]] == ["multiple_frames", "burned_in_annotation"]


def test_a_dicom_file_may_be_a_multipart_part_and_in_a_batch(client: Client, picture: Image.Image) -> None:
    parts = [
        ("files", ("1", dicom_file(picture), "application/dicom")),
        ("files", ("2", b"DICM", "image/png")),
    ]
    first, second = client.post("/predict/batch", files=parts).json()["results"]
    assert "prediction" in first
    assert second["type"] == "urn:dermaserve:problem:unsupported-image"


@pytest.mark.parametrize(
    ("changes", "status", "kind"),
    [
        ({"SOPClassUID": uid.MRImageStorage}, 415, "unsupported-image"),
        ({"syntax": uid.DeflatedExplicitVRLittleEndian}, 415, "unsupported-image"),
        ({"Rows": 301}, 422, "corrupt-image"),
        ({"Rows": 65535, "Columns": 65535}, 413, "image-too-large"),
    ],
    ids=lambda value: str(value),
)
def test_other_dicom_files_are_refused(
    client: Client, picture: Image.Image, changes: dict[str, Any], status: int, kind: str
) -> None:
    data = dicom_file(picture, jpeg=encoded(picture, "JPEG") if status == 413 else None, **changes)
    assert_problem(client.post("/predict", content=data, headers=DICOM), status, kind)


def test_names_of_patients_are_in_no_response_and_no_log(
    client: Client, picture: Image.Image, caplog: pytest.LogCaptureFixture
) -> None:
    whole = dicom_file(picture)
    with caplog.at_level(logging.DEBUG):
        for data in (whole, whole[:400], whole[:1000], whole[:-100]):
            response = client.post("/predict", content=data, headers=DICOM)
            text = response.text + str(response.headers) + client.get("/metrics").text + caplog.text
            assert not [secret for secret in SECRETS if secret in text]


def test_the_page_accepts_the_formats_that_the_service_reads(client: Client) -> None:
    page = client.get("/").text
    assert ",application/dicom" in page
    assert ",.dcm" in page


def test_without_the_extras_the_service_does_not_list_their_formats(
    tmp_path: Path, tiny: Path, picture: Image.Image
) -> None:
    # Run at the start of this process and of those that decode, which get the paths of this one.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys; sys.modules['pydicom'] = sys.modules['pillow_heif'] = None"
    )
    with process(tmp_path, tiny, options={"env": {"PYTHONPATH": str(tmp_path)}}) as server:
        server.wait_ready()
        texts = {path: httpx.get(server.url + path).text for path in ("/", "/openapi.json")}
        other = httpx.post(server.url + "/predict", content=b"no image", headers=JPEG)
        refusals = {
            media_type: httpx.post(
                server.url + "/predict", content=b"x", headers={"content-type": media_type}
            )
            for media_type in ("application/dicom", "image/heic", "image/heif")
        }
        assert_problem(
            httpx.post(server.url + "/predict", content=dicom_file(picture), headers=JPEG),
            415, "unsupported-image",
        )  # fmt: skip
    assert 'accept="image/jpeg,image/png,image/webp,image/tiff,image/bmp"' in texts["/"]
    predict = json.loads(texts["/openapi.json"])["paths"]["/predict"]["post"]
    assert "application/octet-stream" not in predict["requestBody"]["content"]
    assert [name for name in ("dicom", "heic", "heif") if name in texts["/openapi.json"].lower()] == []
    assert_problem(other, 415, "unsupported-image")
    assert [name for name in ("dicom", "heic", "heif") if name in other.text.lower()] == []
    for media_type, response in refusals.items():
        assert_problem(response, 415, "unsupported-media-type")
        extra = "dicom" if "dicom" in media_type else "heif"
        assert f"lacks the extra '{extra}', which reads {media_type}." in response.json()["detail"]
