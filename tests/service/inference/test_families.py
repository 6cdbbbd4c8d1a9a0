"""Bundles with grey or colour input, square or not, with two or seven classes."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.labels import HAM10000_LABELS, Label
from models.preprocess import decode
from models.scaling import Color
from service.inference.onnx_session import OnnxSession, Outputs
from tests.service.app_client import Client, running
from tests.service.conftest import JPEG, assert_problem
from tests.synthetic import encoded
from tests.tiny_bundle import write_tiny_bundle

TWO = (Label("benign", "Benign", False), Label("malignant", "Malignant", True))


class Family(NamedTuple):
    color: Color
    height: int
    width: int
    classes: Sequence[Label]


FAMILIES = [
    Family("grey", 75, 100, TWO),
    Family("rgb", 75, 100, HAM10000_LABELS),
    Family("rgb", 128, 96, TWO),
    Family("grey", 28, 28, HAM10000_LABELS),
]


@pytest.fixture(params=FAMILIES, ids=lambda f: f"{f.color}-{f.height}x{f.width}-{len(f.classes)}")
def family(request: pytest.FixtureRequest) -> Family:
    chosen: Family = request.param
    return chosen


@pytest.fixture
def bundle(tmp_path: Path, family: Family) -> Path:
    return write_tiny_bundle(
        tmp_path, color=family.color, height=family.height, width=family.width, classes=family.classes
    ).path


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def test_a_prediction_has_the_classes_of_its_bundle(bundle: Path, family: Family, jpeg: bytes) -> None:
    codes = [label.code for label in family.classes]
    with running(bundle) as client:
        body = client.post("/predict", content=jpeg, headers=JPEG).json()
    probabilities = body["probabilities"]
    assert list(probabilities) == codes
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-6)
    malignant = sum(probabilities[label.code] for label in family.classes if label.malignant)
    assert body["malignancy"]["probability"] == pytest.approx(malignant)
    assert body["prediction"]["label"] == max(codes, key=probabilities.__getitem__)
    by_rank = sorted(codes, key=probabilities.__getitem__, reverse=True)
    expected = [code for code in by_rank if probabilities[code] >= 0.1]
    assert body["prediction_set"] == {"coverage": 0.9, "labels": expected}
    p = np.array([value for value in probabilities.values() if value > 0])
    entropy = -(p * np.log(p)).sum() / np.log(len(codes))
    assert body["uncertainty"]["entropy"] == pytest.approx(entropy, abs=1e-9)
    assert body["warnings"] == []


def test_the_overlay_has_the_size_of_the_input_for_every_class(
    bundle: Path, family: Family, jpeg: bytes
) -> None:
    with running(bundle) as client:
        for label in family.classes:
            query = f"?gradcam=true&gradcam_class={label.code}"
            shown = client.post(f"/predict{query}", content=jpeg, headers=JPEG).json()["gradcam"]
            picture = client.post(f"/gradcam?gradcam_class={label.code}", content=jpeg, headers=JPEG)
            assert shown["label"] == picture.headers["x-gradcam-label"] == label.code
            assert base64.b64decode(shown["data"]) == picture.content
            image = opened(picture.content)
            assert (image.mode, image.size) == ("RGB", (family.width, family.height))


def test_the_input_of_the_graph_is_the_output_of_the_shared_decoder(
    bundle: Path, family: Family, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[NDArray[np.uint8]] = []
    real = OnnxSession.run

    def run(predictor: OnnxSession, batch: NDArray[np.uint8], *metadata: Any) -> Outputs:
        seen.append(batch)
        return real(predictor, batch, *metadata)

    with running(bundle) as client:
        monkeypatch.setattr(OnnxSession, "run", run)
        client.post("/predict", content=jpeg, headers=JPEG)
    expected = decode(jpeg, height=family.height, width=family.width, color=family.color).pixels
    assert expected.shape == (family.height, family.width, 1 if family.color == "grey" else 3)
    np.testing.assert_array_equal(seen[0], expected[None])


def test_grey_and_transparent_images_are_classified(
    bundle: Path, family: Family, lesion: Image.Image
) -> None:
    with running(bundle) as client:
        parts = [("files", encoded(lesion.convert(mode), "PNG")) for mode in ("L", "RGBA", "1", "P")]
        results = client.post("/predict/batch", files=parts).json()["results"]
    assert [list(result["probabilities"]) for result in results] == [
        [label.code for label in family.classes]
    ] * len(parts)


def test_a_small_image_is_compared_with_the_input_size_of_the_model(
    bundle: Path, family: Family, lesion: Image.Image
) -> None:
    def codes(client: Client, width: int, height: int) -> list[str]:
        data = encoded(lesion.resize((width, height)), "PNG")
        body = client.post("/predict", content=data, headers={"content-type": "image/png"}).json()
        return [warning["code"] for warning in body["warnings"]]

    with running(bundle) as client:
        assert codes(client, family.width, family.height) == []
        assert codes(client, family.width - 1, family.height) == ["low_resolution"]
        assert codes(client, family.width, family.height - 1) == ["low_resolution"]


def test_the_model_and_its_problems_name_the_classes_and_input_of_the_bundle(
    bundle: Path, family: Family, jpeg: bytes
) -> None:
    with running(bundle) as client:
        card = client.get("/model").json()
        refused = client.post("/predict?gradcam=true&gradcam_class=unknown", content=jpeg, headers=JPEG)
    assert card["classes"] == [label._asdict() for label in family.classes]
    spec = {"height": family.height, "width": family.width, "color": family.color}
    assert card["input"] == {"name": "image", "crop": "centre"} | spec
    assert set(card["drift_reference"]["labels"]) == {label.code for label in family.classes}
    assert_problem(refused, 422, "invalid-request")
    assert ", ".join(label.code for label in family.classes) in refused.json()["detail"]
