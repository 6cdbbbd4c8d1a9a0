"""``load_bundle``: whatever was altered, it is refused naming the file or field."""

import json
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


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json: cannot be read"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.update(extra=1), "extra"),
        (lambda m: m.pop("licence"), "licence"),
        (lambda m: m.update(schema_version=2), "schema_version"),
        (lambda m: m.update(version="1.0"), "version"),
        (lambda m: m["input"].update(color="blue"), "input.color"),
        (lambda m: m["operating_point"].update(threshold=float("nan")), "operating_point"),
        (lambda m: m["members"][0].update(weight=0.5), "members: weights must sum to 1"),
        (lambda m: m["classes"][0].update(code="bcc"), "codes must differ"),
        (lambda m: [c.update(malignant=False) for c in m["classes"]], "malignant"),
        (lambda m: m["decision_rule"]["prior"].pop("mel"), r"decision_rule\.prior"),
        (lambda m: m.update(outputs=["probabilities"]), "outputs: cams missing"),
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


def test_a_manifest_is_not_written_without_a_graph(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="export the graph before the manifest"):
        save_bundle(tmp_path, tiny_manifest("rgb", 224, 224, HAM10000_LABELS))
