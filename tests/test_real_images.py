"""The shipped bundle on real images, through the service's door: what a clinic would see."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.bundle import load_bundle
from models.preprocess import decode
from tests.icc_profiles import in_space, rgb_profile
from tests.service.app_client import Client, running
from tests.synthetic import encoded

JPEG = {"content-type": "image/jpeg"}


@pytest.fixture(scope="module")
def client(shipped_bundle: Path) -> Iterator[Client]:
    with running(shipped_bundle) as client:
        yield client


@pytest.fixture(scope="module")
def originals(ham10000: Path) -> list[Path]:
    paths = sorted((ham10000 / "originals").glob("*.jpg"))
    if not paths:
        pytest.skip("the data set has no folder `originals` with full-size images")
    return paths


def _predict(client: Client, data: bytes, query: str = "", media_type: str = "image/jpeg") -> dict[str, Any]:
    answer = client.post(f"/predict{query}", content=data, headers={"content-type": media_type})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def _vector(body: dict[str, Any]) -> np.ndarray:
    return np.array(list(body["probabilities"].values()))


def test_every_original_is_answered_as_the_contract_says(
    client: Client, originals: list[Path], shipped_bundle: Path
) -> None:
    manifest = load_bundle(shipped_bundle).manifest
    for path in originals:
        body = _predict(client, path.read_bytes(), "?gradcam=true")
        assert tuple(body["probabilities"]) == manifest.codes
        assert sum(body["probabilities"].values()) == pytest.approx(1.0, abs=1e-6)
        malignancy = sum(body["probabilities"][code] for code in manifest.malignant)
        assert body["malignancy"]["probability"] == pytest.approx(malignancy, abs=1e-6)
        reached = malignancy >= manifest.operating_point.threshold
        assert body["malignancy"]["flag"] == ("malignant" if reached else "benign")
        prior = manifest.decision_rule.prior
        rule = {c: p / prior[c] ** manifest.decision_rule.tau for c, p in body["probabilities"].items()}
        assert body["prediction"]["label"] == max(rule, key=lambda code: rule[code])
        label, flagged = body["prediction"]["label"], body["malignancy"]["flag"] == "malignant"
        benign = label not in manifest.malignant
        suspect = max(manifest.malignant, key=lambda code: body["probabilities"][code])
        assert body["gradcam"]["label"] == (suspect if flagged and benign else label)
        codes = [warning["code"] for warning in body["warnings"]]
        assert ("flag_label_disagree" in codes) == (flagged == benign)
        likeliest = max(body["probabilities"], key=lambda code: body["probabilities"][code])
        assert {label, likeliest} <= set(body["prediction_set"]["labels"])


def test_the_overlay_lies_on_the_square_that_the_model_saw(client: Client, originals: list[Path]) -> None:
    for path in originals[:8]:
        data = path.read_bytes()
        body = _predict(client, data, "?gradcam=true")
        overlay = np.asarray(Image.open(io.BytesIO(base64.b64decode(body["gradcam"]["data"]))).convert("RGB"))
        seen = decode(data).pixels
        assert overlay.shape == seen.shape
        # Colour over a pixel with an opacity of at most 0.4 stays between 0.6 of it and that plus 0.4 of 255.
        assert (overlay >= 0.6 * seen - 1).all()
        assert (overlay <= 0.6 * seen + 0.4 * 255 + 1).all()
        assert (overlay != seen).any()
        shifted = np.roll(seen, 20, axis=1)
        assert (overlay < 0.6 * shifted - 1).any()


def test_a_raw_body_and_a_form_give_the_same_numbers(client: Client, originals: list[Path]) -> None:
    for path in originals[:8]:
        data = path.read_bytes()
        form = client.post("/predict", files={"file": (path.name, data, "image/jpeg")}).json()
        assert form["probabilities"] == pytest.approx(_predict(client, data)["probabilities"], abs=1e-6)


def test_full_size_and_reduced_images_of_a_lesion_agree(
    client: Client, originals: list[Path], ham10000: Path
) -> None:
    """600 × 450 as published and 344 × 258 as trained on: below 0.05 on average."""
    differences = []
    for path in originals:
        reduced = ham10000 / "images" / path.name
        if reduced.is_file():
            with Image.open(reduced) as a, Image.open(path) as b:
                if a.size == b.size:
                    continue
            full = _vector(_predict(client, path.read_bytes()))
            differences.append(np.abs(full - _vector(_predict(client, reduced.read_bytes()))).mean())
    if not differences:
        pytest.skip("the data set has no images in two sizes")
    print(f"\nmean difference of a probability between the sizes: {np.mean(differences):.4f}")
    assert np.mean(differences) < 0.05


def test_decoding_at_half_the_size_changes_a_picture_by_noise_only(originals: list[Path]) -> None:
    differences = []
    for path in originals[:16]:
        data, whole = path.read_bytes(), io.BytesIO()
        Image.open(io.BytesIO(data)).save(whole, "BMP")  # as it is when fully decoded
        reduced, full = (decode(file, height=140, width=140).pixels for file in (data, whole.getvalue()))
        differences.append(np.abs(reduced.astype(int) - full).mean())
    print(f"\nmean difference of a pixel, of 255: {np.mean(differences):.2f}")
    assert 0 < np.mean(differences) < 0.5


@pytest.mark.parametrize("space", ["Display P3", "Adobe RGB", "ProPhoto RGB"])
def test_a_picture_in_a_wider_colour_space_gets_the_answer_of_the_same_in_srgb(
    client: Client, originals: list[Path], space: str
) -> None:
    """Within 0.02 of the probabilities, in total variation; read without its profile it is far off."""
    distances, unread = [], []
    for path in originals:
        with Image.open(path) as image:
            plain = image.convert("RGB")
        stored = in_space(plain, space)
        pictures = [
            encoded(plain, "PNG", compress_level=1),
            encoded(stored, "PNG", compress_level=1, icc_profile=rgb_profile(space)),
            encoded(stored, "PNG", compress_level=1),
        ]
        expected, found, without = (
            _vector(_predict(client, data, media_type="image/png")) for data in pictures
        )
        distances.append(np.abs(found - expected).sum() / 2)
        unread.append(np.abs(without - expected).sum() / 2)
    print(f"\n{space}: total variation at most {max(distances):.4f}; without profile {np.mean(unread):.3f}")
    assert max(distances) < 0.02
    assert np.mean(unread) > 0.02


def test_turned_and_mirrored_lesions_mostly_keep_their_label(client: Client, originals: list[Path]) -> None:
    kept = []
    for path in originals:
        with Image.open(path) as image:
            label = _predict(client, path.read_bytes())["prediction"]["label"]
            for turn in Image.Transpose:
                turned = encoded(image.transpose(turn), "PNG", compress_level=1)
                body = _predict(client, turned, media_type="image/png")
                kept.append(body["prediction"]["label"] == label)
    print(f"\nshare of {len(kept)} turned or mirrored uploads with the same label: {np.mean(kept):.3f}")
    assert np.mean(kept) > 0.7
