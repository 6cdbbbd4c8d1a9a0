"""``load_bundle`` rejects an altered bundle and names the file or field."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.bundle import MANIFEST_NAME, MODEL_NAME, load_bundle, save_bundle
from models.errors import BundleError
from models.labels import HAM10000_LABELS
from tests.tiny_bundle import tiny_manifest, write_tiny_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "roc.txt").write_text("curve")
    return write_tiny_bundle(tmp_path).path


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_saved_bundle_loads_with_every_file_listed(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert set(bundle.manifest.files) == {MODEL_NAME, "report/roc.txt"}
    assert bundle.manifest.codes == tuple(label.code for label in HAM10000_LABELS)
    assert bundle.manifest.malignant == ("akiec", "bcc", "mel")


def test_an_altered_file_is_refused(folder: Path) -> None:
    (folder / "report" / "roc.txt").write_text("better curve")
    with pytest.raises(BundleError, match=r"roc\.txt: sha256 is"):
        load_bundle(folder)


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / MODEL_NAME).unlink()
    with pytest.raises(BundleError, match=r"model\.onnx: cannot be read"):
        load_bundle(folder)


def test_a_pipe_in_place_of_a_file_is_refused_without_blocking(folder: Path) -> None:
    (folder / MODEL_NAME).unlink()
    os.mkfifo(folder / MODEL_NAME)
    with pytest.raises(BundleError, match=r"model\.onnx: not a regular file"):
        load_bundle(folder)


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json: cannot be read"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.update(extra=1), "extra"),
        (lambda m: m.pop("licence"), "licence"),
        (lambda m: m.update(schema_version=3), "schema_version: expected 2, got 3"),
        (lambda m: m.update(version="1.0"), "version"),
        (lambda m: m.update(version="\u0661.\u0660.\u0660"), "version"),
        (lambda m: m["classes"][0].update(code="a\nX-Forged: 1"), r"classes\.0\.code"),
        (lambda m: m["classes"][0].update(code="m\u00e9lanome"), r"classes\.0\.code"),
        (lambda m: m["input"].update(color="blue"), "input.color"),
        (lambda m: m["operating_point"].update(threshold=float("nan")), "operating_point"),
        (lambda m: m["members"][0].update(weight=0.5), "members: weights must sum to 1"),
        (lambda m: m["classes"][0].update(code="bcc"), "codes must differ"),
        (lambda m: [c.update(malignant=False) for c in m["classes"]], "malignant"),
        (lambda m: m["decision_rule"]["prior"].pop("mel"), r"decision_rule\.prior: expected akiec, bcc"),
        (
            lambda m: m["decision_rule"]["prior"].update(mel=0.9),
            r"decision_rule\.prior: .* sum to 1, got 1\.",
        ),
        (lambda m: m["metrics"]["balanced_accuracy"].update(low=0.7), r"metrics.*low <= high, got low 0\.7"),
        (lambda m: m["input"].update(height=2), r"input\.height"),
        (lambda m: m.update(outputs=["probabilities"]), "outputs: cams, disagreement, ood_score missing"),
        (lambda m: m["files"].pop(MODEL_NAME), r"files: model\.onnx missing"),
        (lambda m: m["files"].update({"../other": "0"}), "outside the bundle"),
    ],
)
def test_an_inconsistent_manifest_is_refused_naming_the_field(
    folder: Path, change: Callable[[dict[str, Any]], object], field: str
) -> None:
    edit(folder, change)
    with pytest.raises(BundleError, match=field):
        load_bundle(folder)


@pytest.mark.parametrize(
    "field",
    [
        "combination",
        "prediction_sets",
        "out_of_distribution",
        "disagreement",
        "quality",
        "drift_reference",
        "subgroups",
    ],
)
def test_every_safeguard_is_required(folder: Path, field: str) -> None:
    edit(folder, lambda manifest: manifest.pop(field))
    with pytest.raises(BundleError, match=rf"manifest\.json: {field}: Field required"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.update(combination="stacking"), "combination: Input should be 'mean', 'vote' or"),
        (lambda m: m["prediction_sets"].update(coverage=1.0), r"prediction_sets\.coverage"),
        (lambda m: m["prediction_sets"]["thresholds"].pop("nv"), r"thresholds: expected akiec.*; got akiec"),
        (lambda m: m["prediction_sets"]["thresholds"].update(nv=1.5), r"prediction_sets\.thresholds\.nv"),
        (lambda m: m["prediction_sets"]["measured"].pop("overall"), "measured: expected overall, akiec"),
        (
            lambda m: m["prediction_sets"]["mean_size"].update(value=0.8),
            "mean_size: expected 1 to 7, got 0.8",
        ),
        (lambda m: m["out_of_distribution"].update(threshold=None), r"out_of_distribution\.threshold"),
        (lambda m: m["out_of_distribution"].update(method=""), r"out_of_distribution\.method"),
        (lambda m: m["disagreement"].update(threshold=1.5), r"disagreement\.threshold"),
        (
            lambda m: m["quality"].update(brightness_min=200, brightness_max=60),
            "quality: .*brightness_min < brightness_max, got 200 and 60",
        ),
        (lambda m: m["drift_reference"]["labels"].update(nv=0.9), "drift_reference: .*labels: .* sum to 1"),
        (
            lambda m: m["drift_reference"].update(labels={"mel": 1.0}),
            r"drift_reference\.labels: expected ak",
        ),
        (lambda m: m["drift_reference"]["confidence"].pop(), r"drift_reference\.confidence"),
        (lambda m: m["drift_reference"].update(confidence=[0.2] * 10), "confidence: .* sum to 1, got 2"),
        (lambda m: m["subgroups"].append(m["subgroups"][0]), "subgroups: sex female occurs more than once"),
    ],
)
def test_a_safeguard_that_contradicts_itself_or_the_classes_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], field: str
) -> None:
    edit(folder, change)
    with pytest.raises(BundleError, match=field):
        load_bundle(folder)


def test_a_manifest_without_subgroups_is_valid(folder: Path) -> None:
    edit(folder, lambda manifest: manifest.update(subgroups=[]))
    assert load_bundle(folder).manifest.subgroups == ()


def test_a_bundle_of_schema_1_is_refused_saying_what_to_do(folder: Path) -> None:
    edit(folder, lambda manifest: [manifest.update(schema_version=1), manifest.pop("combination")])
    with pytest.raises(BundleError, match="schema_version: expected 2, got 1; export the bundle again"):
        load_bundle(folder)


def test_a_manifest_is_not_written_without_a_graph(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="export the graph before writing the manifest"):
        save_bundle(tmp_path, tiny_manifest("rgb", 224, 224, HAM10000_LABELS))
