"""``POST /predict``: the answer of the API contract."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from models.bundle import DecisionRule, Interval, load_bundle
from models.labels import HAM10000_LABELS
from service.inference.onnx_session import OnnxSession
from tests.service.app_client import Client, running, said
from tests.service.conftest import JPEG, assert_problem
from tests.synthetic import encoded
from tests.tiny_bundle import write_tiny_bundle


def test_a_prediction_has_the_documented_members(client: Client, jpeg: bytes) -> None:
    response = client.post("/predict", files={"file": ("a.jpg", jpeg, "image/jpeg")})
    assert response.status_code == 200, response.text
    body = response.json()
    assert list(body) == [
        "request_id",
        "model",
        "probabilities",
        "prediction",
        "malignancy",
        "prediction_set",
        "uncertainty",
        "warnings",
        "metadata_used",
        "gradcam",
    ]
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["model"] == {"name": "tiny-test-bundle", "version": "0.0.1"}
    assert list(body["probabilities"]) == [label.code for label in HAM10000_LABELS]
    assert sum(body["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    label = max(body["probabilities"], key=body["probabilities"].__getitem__)
    names = {entry.code: entry.name for entry in HAM10000_LABELS}
    assert body["prediction"] == {
        "label": label,
        "name": names[label],
        "probability": body["probabilities"][label],
    }
    malignant = sum(body["probabilities"][code] for code in ("akiec", "bcc", "mel"))
    assert body["malignancy"]["probability"] == pytest.approx(malignant)
    assert body["malignancy"]["threshold"] == 0.5
    assert body["malignancy"]["flag"] == ("malignant" if malignant >= 0.5 else "benign")
    assert body["warnings"] == []
    assert body["gradcam"] is None
    assert body["metadata_used"] is None


def test_raw_body_and_multipart_give_the_same_numbers(client: Client, jpeg: bytes) -> None:
    raw = client.post("/predict", content=jpeg, headers=JPEG).json()
    multipart = client.post("/predict", files={"file": jpeg}).json()
    assert raw["probabilities"] == multipart["probabilities"]


def test_different_images_get_different_probabilities(client: Client, jpeg: bytes) -> None:
    other = encoded(Image.new("RGB", (300, 300), (200, 40, 90)), "JPEG")
    answers = [client.post("/predict", content=data, headers=JPEG).json() for data in (jpeg, other)]
    assert answers[0]["probabilities"] != answers[1]["probabilities"]


def test_gradcam_explains_the_label_by_default(client: Client, jpeg: bytes) -> None:
    answer = client.post("/predict?gradcam=true", content=jpeg, headers=JPEG).json()
    assert answer["malignancy"]["flag"] == "benign"
    assert answer["gradcam"]["label"] == answer["prediction"]["label"]
    assert answer["gradcam"]["media_type"] == "image/png"
    image = Image.open(io.BytesIO(base64.b64decode(answer["gradcam"]["data"])))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (224, 224))
    other = client.post("/predict?gradcam=true&gradcam_class=df", content=jpeg, headers=JPEG).json()
    assert other["gradcam"]["label"] == "df"


def test_unknown_gradcam_class_is_refused_naming_the_known_ones(client: Client, jpeg: bytes) -> None:
    for path in ("/predict?gradcam=true&gradcam_class=melanoma", "/gradcam?gradcam_class=melanoma"):
        response = client.post(path, content=jpeg, headers=JPEG)
        assert_problem(response, 422, "invalid-request")
        detail = "gradcam_class: expected one of akiec, bcc, bkl, df, mel, nv, vasc."
        assert response.json()["detail"] == detail
        assert response.json()["errors"] == [{"detail": detail, "parameter": "gradcam_class"}]


@pytest.mark.parametrize("query", ["gradcam_class=mel", "gradcam=false&gradcam_class=mel"])
def test_gradcam_class_without_gradcam_is_refused(client: Client, jpeg: bytes, query: str) -> None:
    response = client.post(f"/predict?{query}", content=jpeg, headers=JPEG)
    assert_problem(response, 422, "invalid-request")
    (fault,) = response.json()["errors"]
    assert fault == {"detail": "gradcam_class: needs gradcam=true.", "parameter": "gradcam_class"}


def test_a_bad_bool_is_refused_naming_the_parameter(client: Client, jpeg: bytes) -> None:
    response = client.post("/predict?gradcam=perhaps", content=jpeg, headers=JPEG)
    assert_problem(response, 422, "invalid-request")
    assert "gradcam" in response.json()["detail"]
    assert response.json()["errors"] == [{"detail": "Expected true or false.", "parameter": "gradcam"}]


def test_every_wrong_parameter_is_named(client: Client, jpeg: bytes) -> None:
    path = f"/predict?gradcam=perhaps&gradcam_class={'x' * 65}"
    faults = client.post(path, content=jpeg, headers=JPEG).json()["errors"]
    assert [fault["parameter"] for fault in faults] == ["gradcam", "gradcam_class"]


def test_small_images_are_answered_with_a_warning(client: Client) -> None:
    data = encoded(Image.new("RGB", (100, 300), "brown"), "PNG")
    warnings = client.post("/predict", content=data, headers={"content-type": "image/png"}).json()["warnings"]
    assert [w["code"] for w in warnings] == ["low_resolution"]
    assert "100 x 300" in warnings[0]["detail"]


def test_label_follows_the_decision_rule_of_the_manifest(tmp_path: Path, jpeg: bytes) -> None:
    codes = [label.code for label in HAM10000_LABELS]
    prior = {code: 0.001 if code == "df" else 0.999 / 6 for code in codes}
    bundle = write_tiny_bundle(tmp_path, decision_rule=DecisionRule(tau=2.0, prior=prior))
    with running(bundle.path) as client:
        body = client.post("/predict", content=jpeg, headers=JPEG).json()
    scores = {code: p / prior[code] ** 2 for code, p in body["probabilities"].items()}
    assert body["prediction"]["label"] == max(scores, key=scores.__getitem__)
    assert body["prediction"]["label"] != max(body["probabilities"], key=body["probabilities"].__getitem__)


def test_model_states_the_facts_of_the_manifest(client: Client, tiny: Path) -> None:
    card = client.get("/model").json()
    assert card.pop("provider") == "CPUExecutionProvider"
    assert card.pop("malignant") == ["akiec", "bcc", "mel"]
    card.pop("predictive_values")
    card.pop("formats")
    card.pop("request_limits")
    manifest = json.loads(load_bundle(tiny).manifest.model_dump_json())
    assert card == {name: manifest[name] for name in card}
    assert {"classes", "input", "decision_rule", "operating_point", "metrics", "licence", "limits"} <= set(
        card
    )


def test_model_has_predictive_values_at_two_prevalences(tmp_path: Path) -> None:
    figures = {"sensitivity": 0.9, "specificity": 0.6, "prevalence": 0.2}
    metrics = {f"malignancy_{name}": Interval(value=v, low=v, high=v) for name, v in figures.items()}
    with running(write_tiny_bundle(tmp_path, metrics=metrics).path) as client:
        test, few = client.get("/model").json()["predictive_values"]
    # Of 1000 lesions 180 of 200 malignant ones are flagged, and 320 of 800 benign ones.
    assert test == pytest.approx({"prevalence": 0.2, "positive": 180 / 500, "negative": 480 / 500})
    assert few == pytest.approx({"prevalence": 0.05, "positive": 45 / 425, "negative": 570 / 575})


def test_an_older_bundle_has_predictive_values_only_at_the_low_prevalence(client: Client) -> None:
    (few,) = client.get("/model").json()["predictive_values"]
    assert few == pytest.approx({"prevalence": 0.05, "positive": 45 / 520, "negative": 475 / 480})


def test_the_gradcam_route_returns_an_overlay_and_names_its_class(client: Client, jpeg: bytes) -> None:
    response = client.post("/gradcam", files={"file": jpeg})
    assert response.headers["content-type"] == "image/png"
    predicted = client.post("/predict", files={"file": jpeg}).json()["prediction"]["label"]
    assert response.headers["x-gradcam-label"] == predicted
    assert Image.open(io.BytesIO(response.content)).size == (224, 224)
    other = client.post("/gradcam?gradcam_class=vasc", content=jpeg, headers=JPEG)
    assert other.headers["x-gradcam-label"] == "vasc"
    assert "x-gradcam-empty" not in other.headers


def test_an_empty_overlay_has_a_header(client: Client, jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxSession, "run", lambda *_: said([1 / 7] * 7))
    assert client.post("/gradcam", content=jpeg, headers=JPEG).headers["x-gradcam-empty"] == "true"


def test_batch_results_are_in_order_and_a_bad_image_fails_alone(client: Client, jpeg: bytes) -> None:
    other = encoded(Image.new("RGB", (300, 300), (200, 40, 90)), "PNG")
    parts = [("files", data) for data in (jpeg, b"no image", other, jpeg[:500], jpeg)]
    response = client.post("/predict/batch", files=parts)
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    assert [r.get("status", 200) for r in results] == [200, 415, 200, 422, 200]
    single = client.post("/predict", content=other, headers={"content-type": "image/png"}).json()
    assert results[2]["probabilities"] == pytest.approx(single["probabilities"], abs=1e-6)
    assert results[0]["probabilities"] == pytest.approx(results[4]["probabilities"], abs=1e-6)
    assert [r["index"] for r in results] == [0, 1, 2, 3, 4]
    kinds = ["prediction", "problem", "prediction", "problem", "prediction"]
    assert [r["kind"] for r in results] == kinds


def test_a_batch_returns_file_names_and_does_not_log_them(
    client: Client, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["Jane Doe.jpg", "Müller%22.png", "C:\\scans\\Jane.jpg", "../x"]
    lines = "".join(
        f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\nno image\r\n'
        for name in names
    )
    lines += '--x\r\nContent-Disposition: form-data; name="files"\r\n\r\nno image\r\n--x--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x"}
    with caplog.at_level("DEBUG", "service"):
        results = client.post("/predict/batch", content=lines.encode(), headers=headers).json()["results"]
    assert [r["filename"] for r in results] == [*names[:2], "Jane.jpg", names[3], None]
    assert "Jane" not in caplog.text + client.get("/metrics").text
    assert "Jane" not in str([vars(record) for record in caplog.records])


def test_an_empty_part_of_a_batch_gets_its_own_problem(client: Client, jpeg: bytes) -> None:
    parts = [("files", jpeg), ("files", b""), ("files", jpeg)]
    response = client.post("/predict/batch", files=parts)
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    assert [r.get("status", 200) for r in results] == [200, 422, 200]
    detail = "The part is empty. Expected an image."
    assert results[1]["detail"] == detail
    assert results[1]["errors"] == [{"detail": detail, "pointer": "#/files/1"}]
    alone = client.post("/predict/batch", files=[("files", b"")]).json()["results"]
    assert [r["kind"] for r in alone] == ["problem"]


@pytest.mark.parametrize(
    ("path", "parts", "pointer"),
    [
        ("/predict", [("image", b"x")], "#/file"),
        ("/predict", [("file", b"")], "#/file"),
        ("/gradcam", [("file", b"x"), ("file", b"x")], "#/file"),
        ("/predict/batch", [("file", b"x")], "#/files"),
        ("/predict/batch", [("files", b"x")] * 33, "#/files"),
    ],
)
def test_a_wrong_part_is_named(
    client: Client, path: str, parts: list[tuple[str, bytes]], pointer: str
) -> None:
    response = client.post(path, files=parts)
    assert_problem(response, 422, "invalid-request")
    assert response.json()["errors"] == [{"detail": response.json()["detail"], "pointer": pointer}]


def test_batch_of_raw_body_or_too_many_images_is_refused(client: Client, jpeg: bytes) -> None:
    assert_problem(client.post("/predict/batch", content=jpeg, headers=JPEG), 415, "unsupported-media-type")
    many = [("files", b"x")] * 33
    assert_problem(client.post("/predict/batch", files=many), 422, "invalid-request")
