"""HEIC over the API: in killable processes, under the same limits as the other formats."""

from importlib import import_module

import numpy as np
import pytest

from tests.service.app_client import Client
from tests.service.conftest import assert_problem
from tests.synthetic import draw_lesion, encoded

pytest.importorskip("pillow_heif", reason="the extra 'heif' is not installed: HEIC is NOT tested")

from tests.long.drawn_files import drawn_heifs

import_module("models.heif")  # so that Pillow can write them

LESION = draw_lesion(np.random.default_rng(2), code="mel", width=320, height=240)


@pytest.fixture(scope="module")
def heic() -> bytes:
    return drawn_heifs(4, 320, 240)["heif-rgb"]


@pytest.mark.parametrize("media_type", ["image/heic", "image/heif"])
def test_a_photograph_of_a_phone_is_classified(client: Client, heic: bytes, media_type: str) -> None:
    raw = client.post("/predict?gradcam=true", content=heic, headers={"content-type": media_type})
    assert raw.status_code == 200
    form = client.post("/predict", files={"file": ("IMG_1.HEIC", heic, media_type)})
    assert form.json()["probabilities"] == raw.json()["probabilities"]


def test_it_is_classified_as_the_same_picture_in_another_format(client: Client) -> None:
    heic = encoded(LESION, "HEIF", quality=-1, chroma=444)  # nearly without loss
    png = encoded(LESION, "PNG")
    found, expected = (
        client.post("/predict", files={"file": data}).json()["probabilities"] for data in (heic, png)
    )
    assert sum(abs(found[code] - expected[code]) for code in expected) / 2 < 0.02


def test_a_damaged_one_is_told_and_costs_the_next_nothing(client: Client, heic: bytes) -> None:
    headers = {"content-type": "image/heic"}
    for damaged in (heic[: len(heic) // 2], heic[:40]):
        assert_problem(client.post("/predict", content=damaged, headers=headers), 422, "corrupt-image")
    assert client.post("/predict", content=heic, headers=headers).status_code == 200


def test_the_installation_says_that_it_accepts_them(client: Client) -> None:
    assert {"image/heic", "image/heif"} <= set(client.get("/model").json()["formats"])
    assert ".heic,.heif" in client.get("/").text
