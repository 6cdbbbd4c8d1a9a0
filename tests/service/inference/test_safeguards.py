"""The prediction set, the uncertainty and the warnings of a prediction."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from models.bundle import (
    DecisionRule,
    Disagreement,
    OperatingPoint,
    OutOfDistribution,
    PredictionSets,
    QualityLimits,
)
from models.labels import HAM10000_LABELS
from models.preprocess import decode
from models.quality import Quality, measure_quality
from service.inference.onnx_session import OnnxSession
from service.inference.warnings import CODES
from tests.service.api.test_operations import samples
from tests.service.app_client import Client, running, said
from tests.synthetic import draw_lesion, encoded
from tests.tiny_bundle import SKIN, tiny_manifest, write_tiny_bundle

CERTAIN = [0, 0, 0, 0, 1, 0, 0]
EVEN = [1 / 7] * 7
HALVES = [0.5, 0.5, 0, 0, 0, 0, 0]
MIXED = [0.02, 0.05, 0.08, 0.0, 0.5, 0.3, 0.05]
CODES_OF_CLASSES = [label.code for label in HAM10000_LABELS]


def answer(client: Client, data: bytes, media_type: str = "image/jpeg") -> dict[str, Any]:
    response = client.post("/predict", content=data, headers={"content-type": media_type})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def warned(client: Client, image: Image.Image) -> list[str]:
    body = answer(client, encoded(image, "PNG"), "image/png")
    return [warning["code"] for warning in body["warnings"]]


def sets(thresholds: Sequence[float]) -> PredictionSets:
    plain = tiny_manifest("rgb", 224, 224, HAM10000_LABELS).prediction_sets
    return plain.model_copy(update={"thresholds": dict(zip(CODES_OF_CLASSES, thresholds, strict=True))})


def favouring(code: str) -> DecisionRule:
    """Return a decision rule that picks ``code`` even if it is improbable."""
    prior = {other: 0.004 if other == code else 0.166 for other in CODES_OF_CLASSES}
    return DecisionRule(tau=1.0, prior=prior)


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ([0.1] * 7, ["mel", "nv"]),
        ([0.05] * 7, ["mel", "nv", "bkl", "bcc", "vasc"]),  # a class belongs from its threshold on
        ([0.01, 1, 1, 1, 0.1, 1, 1], ["mel", "akiec"]),  # each class has a threshold of its own
        ([1.0] * 7, ["mel"]),  # no class reaches its own: label and most probable class belong all the same
        ([1, 1, 1, 1, 1, 0.1, 1], ["mel", "nv"]),
        ([0.0] * 7, ["mel", "nv", "bkl", "bcc", "vasc", "akiec", "df"]),
    ],
)
def test_a_set_holds_the_label_and_every_class_that_reaches_its_threshold(
    tmp_path: Path,
    jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
    thresholds: list[float],
    expected: list[str],
) -> None:
    bundle = write_tiny_bundle(tmp_path, prediction_sets=sets(thresholds))
    with running(bundle.path) as client:
        # Of float64, for a probability that equals its threshold.
        found = said(MIXED)._replace(probabilities=np.array([MIXED], np.float64))
        monkeypatch.setattr(OnnxSession, "run", lambda *_: found)
        assert answer(client, jpeg)["prediction_set"] == {"coverage": 0.9, "labels": expected}


def test_the_flag_is_raised_at_the_threshold_and_probabilities_sum_to_1(
    client: Client, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = [0.5 if code in ("mel", "nv") else 0.0 for code in CODES_OF_CLASSES]
    all_malignant = [1 / 3 if code in ("akiec", "bcc", "mel") else 0.0 for code in CODES_OF_CLASSES]
    rounded = [1.0005 * value for value in halves]  # sums to 1 only within what is tolerated of a graph
    for sent, malignancy in ((halves, 0.5), (all_malignant, 1.0), (rounded, 0.5)):
        monkeypatch.setattr(OnnxSession, "run", lambda *_, sent=sent: said(sent))
        said_of_it = answer(client, jpeg)
        assert said_of_it["malignancy"]["probability"] == pytest.approx(malignancy, abs=1e-6)
        assert said_of_it["malignancy"]["flag"] == "malignant"
        assert sum(said_of_it["probabilities"].values()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("threshold", "expected"), [(0.2, ["mel", "nv", "vasc"]), (0.6, ["mel", "vasc"])])
def test_a_set_holds_the_label_of_the_decision_rule_and_the_most_probable_class(
    tmp_path: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch, threshold: float, expected: list[str]
) -> None:
    bundle = write_tiny_bundle(
        tmp_path, decision_rule=favouring("vasc"), prediction_sets=sets([threshold] * 7)
    )
    with running(bundle.path) as client:
        monkeypatch.setattr(OnnxSession, "run", lambda *_: said(MIXED))
        body = answer(client, jpeg)
    assert body["prediction"]["label"] == "vasc"
    assert body["prediction_set"]["labels"] == expected


@pytest.mark.parametrize(("probabilities", "expected"), [(CERTAIN, 0.0), (EVEN, 1.0), (HALVES, 0.3562)])
def test_entropy_is_0_if_one_class_is_certain_and_1_if_all_are_equal(
    client: Client,
    jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
    probabilities: list[float],
    expected: float,
) -> None:
    monkeypatch.setattr(OnnxSession, "run", lambda *_: said(probabilities, disagreement=0.25, ood_score=-3.5))
    found = answer(client, jpeg)["uncertainty"]
    assert found.pop("entropy") == pytest.approx(expected, abs=1e-3)
    assert found == {"disagreement": 0.25, "ood_score": -3.5, "ood_threshold": 1.0}


def test_each_image_of_a_batch_has_its_own_uncertainty_and_warnings(tmp_path: Path, jpeg: bytes) -> None:
    limit = OutOfDistribution(method="distance from skin", threshold=0.5, quantile=0.99)
    black = encoded(Image.new("RGB", (300, 300)), "PNG")
    with running(write_tiny_bundle(tmp_path, out_of_distribution=limit).path) as client:
        results = client.post("/predict/batch", files=[("files", jpeg), ("files", black)]).json()["results"]
        single = answer(client, jpeg)
    for name in ("probabilities", "uncertainty"):
        assert results[0][name] == pytest.approx(single[name], abs=1e-6)
    assert results[0]["prediction_set"] == single["prediction_set"]
    assert results[1]["uncertainty"]["ood_score"] == pytest.approx(SKIN)
    assert [[w["code"] for w in result["warnings"]] for result in results] == [[], ["out_of_distribution"]]


BETWEEN = [0.1, 0.05, 0.0, 0.0, 0.2, 0.65, 0.0]  # nv is likeliest, yet 0.35 of it is malignant


def flagged_from(threshold: float) -> OperatingPoint:
    plain = tiny_manifest("rgb", 224, 224, HAM10000_LABELS).operating_point
    return plain.model_copy(update={"threshold": threshold})


def overlays(client: Client, data: bytes, query: str = "") -> tuple[str, str]:
    """Return the class that ``/predict`` and ``/gradcam`` explain."""
    headers = {"content-type": "image/jpeg"}
    json = client.post(f"/predict?gradcam=true{query}", content=data, headers=headers).json()
    picture = client.post(f"/gradcam?{query}", content=data, headers=headers)
    return json["gradcam"]["label"], picture.headers["x-gradcam-label"]


def test_a_flagged_image_with_a_benign_label_has_a_warning_and_the_evidence_for_the_flag(
    tmp_path: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_tiny_bundle(tmp_path, operating_point=flagged_from(0.3))
    with running(bundle.path) as client:
        monkeypatch.setattr(OnnxSession, "run", lambda *_: said(BETWEEN))
        body = answer(client, jpeg)
        assert (body["malignancy"]["flag"], body["prediction"]["label"]) == ("malignant", "nv")
        (warning,) = body["warnings"]
        assert warning["code"] == "flag_label_disagree"
        assert "Melanocytic nevus, which is benign" in warning["detail"]
        assert overlays(client, jpeg) == ("mel", "mel")
        assert overlays(client, jpeg, "&gradcam_class=nv") == ("nv", "nv")
        in_batch = client.post("/predict/batch", files=[("files", jpeg)]).json()["results"][0]
        assert in_batch["warnings"] == body["warnings"]
        assert samples(client)["dermaserve_warnings_total code=flag_label_disagree"] >= 2


def test_a_flagged_image_with_a_malignant_label_shows_the_evidence_for_the_label(
    tmp_path: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_tiny_bundle(tmp_path, operating_point=flagged_from(0.3), decision_rule=favouring("akiec"))
    with running(bundle.path) as client:
        monkeypatch.setattr(OnnxSession, "run", lambda *_: said(BETWEEN))
        body = answer(client, jpeg)
        assert (body["malignancy"]["flag"], body["prediction"]["label"]) == ("malignant", "akiec")
        assert body["warnings"] == []
        assert overlays(client, jpeg) == ("akiec", "akiec")


def test_a_malignant_label_without_a_flag_has_a_warning(
    tmp_path: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_tiny_bundle(tmp_path, operating_point=flagged_from(0.4), decision_rule=favouring("akiec"))
    with running(bundle.path) as client:
        monkeypatch.setattr(OnnxSession, "run", lambda *_: said(BETWEEN))
        body = answer(client, jpeg)
        assert (body["malignancy"]["flag"], body["prediction"]["label"]) == ("benign", "akiec")
        assert [warning["code"] for warning in body["warnings"]] == ["flag_label_disagree"]
        assert "which is malignant" in body["warnings"][0]["detail"]
        assert overlays(client, jpeg) == ("akiec", "akiec")


@pytest.mark.parametrize(("disagreement", "expected"), [(0.2, []), (0.21, ["members_disagree"])])
def test_disagreement_above_the_limit_of_the_bundle_gives_a_warning(
    tmp_path: Path,
    jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
    disagreement: float,
    expected: list[str],
) -> None:
    threshold = float(np.float32(0.2))  # as training finds it: one of the graph's own figures
    bundle = write_tiny_bundle(tmp_path, disagreement=Disagreement(threshold=threshold, quantile=0.95))
    with running(bundle.path) as client:
        monkeypatch.setattr(OnnxSession, "run", lambda *_: said(CERTAIN, disagreement=disagreement))
        assert [warning["code"] for warning in answer(client, jpeg)["warnings"]] == expected


def limits_of(images: list[Image.Image]) -> QualityLimits:
    """Fit quality limits that these images keep, as training does."""
    found = [measure_quality(decode(encoded(image, "PNG")).pixels) for image in images]
    low, high = (Quality(*(pick(column) for column in zip(*found, strict=True))) for pick in (min, max))
    return QualityLimits(
        sharpness_min=0.9 * low.sharpness,
        brightness_min=0.9 * low.brightness,
        brightness_max=1.1 * high.brightness,
        contrast_min=0.9 * low.contrast,
        clipped_max=high.clipped + 0.01,
        quantile=1.0,
    )


@pytest.fixture(scope="module")
def lesions() -> list[Image.Image]:
    rng = np.random.default_rng(4)
    return [draw_lesion(rng, code=code) for code in ("mel", "nv", "bkl")]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, lesions: list[Image.Image]) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("strict"), quality=limits_of(lesions)).path


def burnt_out(image: Image.Image) -> Image.Image:
    """Return a dark image with a white spot, whose mean brightness is usual."""
    darker = ImageEnhance.Brightness(image).enhance(0.9)
    darker.paste("white", (100, 100, 250, 250))
    return darker


def test_usual_images_get_no_warning(strict: Path, lesions: list[Image.Image]) -> None:
    with running(strict) as client:
        assert [warned(client, image) for image in lesions] == [[], [], []]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda image: image.filter(ImageFilter.GaussianBlur(3)), ["blurred"]),
        (lambda image: ImageEnhance.Brightness(image).enhance(0.5), "under_exposed"),
        (lambda image: ImageEnhance.Brightness(image).enhance(1.8), "over_exposed"),
        (burnt_out, ["over_exposed"]),
        (lambda image: ImageEnhance.Contrast(image).enhance(0.4), "low_contrast"),
        (lambda image: Image.new("RGB", image.size), ["blurred", "under_exposed", "low_contrast"]),
    ],
)
def test_bad_images_get_a_warning_that_says_what_is_wrong(
    strict: Path,
    lesions: list[Image.Image],
    spoil: Callable[[Image.Image], Image.Image],
    expected: str | list[str],
) -> None:
    with running(strict) as client:
        for lesion in lesions:
            found = warned(client, spoil(lesion))
            assert expected in found if isinstance(expected, str) else found == expected


def test_warnings_are_sentences_and_are_counted_by_code(strict: Path, lesions: list[Image.Image]) -> None:
    black = encoded(Image.new("RGB", (300, 300)), "PNG")
    with running(strict) as client:
        warnings = answer(client, black, "image/png")["warnings"]
        answer(client, encoded(lesions[0], "PNG"), "image/png")
        counted = samples(client)
    assert {warning["code"] for warning in warnings} <= set(CODES)
    for warning in warnings:
        assert warning["detail"].endswith(".")
        assert not any(character.isdigit() for character in warning["detail"])
        assert counted[f"dermaserve_warnings_total code={warning['code']}"] == 1
    assert "dermaserve_warnings_total code=over_exposed" not in counted


def test_the_model_states_the_limits_that_its_warnings_follow(strict: Path) -> None:
    with running(strict) as client:
        card = client.get("/model").json()
    assert set(card["quality"]) == set(QualityLimits.model_fields)
    assert card["combination"] == "mean"
    assert card["prediction_sets"]["thresholds"] == dict.fromkeys(CODES_OF_CLASSES, 0.1)
    assert set(card["prediction_sets"]["measured"]) == {"overall", *CODES_OF_CLASSES}
    assert card["out_of_distribution"]["method"] == "distance from skin"
    assert card["disagreement"] == {"threshold": 1.0, "quantile": 0.95}
    assert [(group["factor"], group["value"]) for group in card["subgroups"]] == [("sex", "female")]
    assert sum(card["drift_reference"]["confidence"]) == pytest.approx(1)
