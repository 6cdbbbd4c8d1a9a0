"""A complete run of the command line on a synthetic data set, and its results."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.bundle import load_bundle
from models.preprocess import decode
from tests.service.app_client import running
from tests.synthetic_dataset import write_dataset
from training.calibration.fit import decide
from training.calibration.metadata import encode
from training.data.dataset import CODES, Row
from training.evaluation.evaluate import load_networks, read_fitted
from training.export.rescore import rescore
from training.fit.loop import predict_logits
from training.run import Run

RECIPE = Path(__file__).with_name("small_recipe.py")


def _training(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset") / "HAM", lesions=8, telling_age=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    """Return the folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    external = folder.with_name("external.md")
    external.write_text("# External tests\n\n## Clinic A\n\nAccuracy 0.5 of version 3.2.0.\n")
    done = _training(
        "run", "--data", dataset, "--out", folder, "--recipe", RECIPE, "--resamples", "50",
        "--model-version", "3.2.1", "--external-tests", external,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "mobilenet_v2 phase 2/2 epoch 2/2" in done.stdout
    return folder


def test_a_run_folder_has_everything_needed_to_repeat_the_run(run: Path, dataset: Path) -> None:
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == 0
    assert environment["data"] == str(dataset)
    assert len(environment["git_revisions"]) == 1
    assert environment["backend"] == "tensorflow"
    assert {"keras", "tensorflow", "numpy"} <= set(environment["versions"])
    recipe = json.loads((run / "recipe.json").read_text())
    assert [member["weight"] for member in recipe["members"]] == [0.6, 0.4]
    with (run / "mobilenet_v2" / "history.csv").open() as stream:
        epochs = [(row["phase"], row["epoch"]) for row in csv.DictReader(stream)]
    assert epochs == [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]
    plots = [f"evaluation/{name}.png" for name in ("confusion_matrix", "f1_by_class", "roc", "reliability")]
    for picture in ("data.png", "mobilenet_v2/curves.png", *plots):
        with Image.open(run / picture) as image:
            image.load()
            assert min(image.size) > 200


def test_every_metric_has_an_interval(run: Path) -> None:
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    by_class = [f"{kind}_{code}" for kind in ("precision", "recall", "f1", "auc") for code in CODES]
    for name in (
        "balanced_accuracy",
        "accuracy_rule",
        "macro_f1",
        "ece",
        "malignancy_sensitivity",
        *by_class,
    ):
        figure = metrics["test"][name]
        assert figure["low"] <= figure["high"]
    assert set(metrics["members"]) == {"mobilenet_v2", "efficientnet_b1"}
    report = (run / "evaluation" / "report.md").read_text()
    assert "Intervals: 95 %" in report
    assert "| vasc |" in report


def test_validation_reaches_the_target_sensitivity(run: Path) -> None:
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert metrics["validation"]["malignancy_sensitivity"]["value"] >= 0.97


def test_the_manifest_describes_the_model(run: Path) -> None:
    manifest = load_bundle(run / "bundle").manifest
    assert (manifest.name, manifest.version) == ("small", "3.2.1")
    assert manifest.codes == CODES
    assert manifest.malignant == ("akiec", "bcc", "mel")
    assert (manifest.input.height, manifest.input.width, manifest.input.color) == (64, 64, "rgb")
    assert sum(manifest.decision_rule.prior.values()) == pytest.approx(1.0)
    assert sum(manifest.data.images.values()) == 7 * 11
    assert {"MODEL_CARD.md", "LICENSE", "model.onnx", "report/report.md", "report/roc.png"} <= set(
        manifest.files
    )
    card = (run / "bundle" / "MODEL_CARD.md").read_text()
    assert "### Clinic A\n\nAccuracy 0.5 of version 3.2.0." in card.partition("\n## External tests\n")[2]
    assert manifest.intended_use in card
    assert all(limit in card for limit in manifest.limits)


def test_the_service_gives_the_predictions_of_keras(run: Path, dataset: Path) -> None:
    opened = Run.open(run)
    networks, calibration = load_networks(opened), read_fitted(opened).calibration
    with running(run / "bundle") as client:
        for image in sorted(dataset.rglob("*.jpg"))[::17]:
            data = image.read_bytes()
            pixels = decode(data, height=64, width=64).pixels[None]
            logits = [predict_logits(network, pixels, 1) for network in networks]
            headers = {"content-type": "image/jpeg"}
            answer = client.post("/predict?gradcam=true", content=data, headers=headers)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            found = np.array([body["probabilities"][code] for code in CODES])
            assert np.abs(found - calibration.probabilities(logits)[0]).max() < 1e-4
            rule = decide(found[None], np.array(calibration.prior), calibration.tau)[0]
            assert body["prediction"]["label"] == CODES[rule]
            assert body["gradcam"]["media_type"] == "image/png"


def test_a_bundle_evaluated_again_has_the_metrics_of_its_run(run: Path, dataset: Path) -> None:
    """Only the graph and the split of the bundle are used; metrics agree to the printed third decimal."""
    again = _training("evaluate", "--bundle", run / "bundle", "--data", dataset, "--resamples", "50")
    assert again.returncode == 0, again.stderr[-3000:]
    manifest = load_bundle(run / "bundle").manifest
    # No AUC: after so little training, the order of the probabilities depends on their last bits.
    for name in ("balanced_accuracy", "accuracy_rule", "malignancy_sensitivity", "ece"):
        figure = manifest.metrics[name]
        line = f"{name:26} {figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
        assert line in again.stdout


def test_a_run_fits_and_measures_age_sex_and_site(run: Path, dataset: Path) -> None:
    measured = json.loads((run / "evaluation" / "metrics.json").read_text())["metadata"]
    manifest = load_bundle(run / "bundle").manifest
    spec = manifest.metadata
    assert spec is not None
    assert (spec.sexes, spec.sites) == (("female", "male"), ("back", "face", "hand")), "only what occurs"
    assert spec.weight > 0
    assert spec.metrics["log_loss"].value < spec.image_only["log_loss"].value
    assert spec.metrics["balanced_accuracy"].value == measured["metrics"]["balanced_accuracy"]["value"]
    assert spec.sensitivity.value >= 0.97
    for text in ("evaluation/report.md", "bundle/MODEL_CARD.md"):
        assert "## With age, sex and site" in (run / text).read_text()


def test_a_bundle_scores_again_with_metadata_as_its_run_did(run: Path, dataset: Path) -> None:
    found = rescore(run / "bundle", dataset, resamples=20)["metadata"]
    spec = load_bundle(run / "bundle").manifest.metadata
    assert spec is not None
    assert found["images"] == spec.images
    for name in ("balanced_accuracy", "log_loss"):
        assert found["metrics"][name]["value"] == pytest.approx(spec.metrics[name].value, abs=1e-3)
        assert found["image_only"][name]["value"] == pytest.approx(spec.image_only[name].value, abs=1e-3)


def test_the_service_uses_metadata_as_the_run_fitted_it(run: Path, dataset: Path) -> None:
    opened = Run.open(run)
    networks, fitted = load_networks(opened), read_fitted(opened)
    assert fitted.metadata is not None
    image = sorted(dataset.rglob("*.jpg"))[3]
    logits = [
        predict_logits(network, decode(image.read_bytes(), height=64, width=64).pixels[None], 1)
        for network in networks
    ]
    row = Row("", "", "nv", "", 25, "male", "back", image)
    expected = fitted.metadata.factors.apply(fitted.calibration.probabilities(logits), encode([row]))[0]
    with running(run / "bundle") as client:
        data = {"age": "25", "sex": "male", "site": "back"}
        body = client.post("/predict", files={"file": image.read_bytes()}, data=data).json()
    assert body["metadata_used"] == {"age": 25.0, "sex": "male", "site": "back"}
    assert np.abs([body["probabilities"][code] for code in CODES] - expected).max() < 1e-4
    assert body["malignancy"]["threshold"] == fitted.metadata.threshold


def test_a_renewed_bundle_equals_that_of_its_run(run: Path, dataset: Path, tmp_path: Path) -> None:
    """Renewing needs no training and no run folder."""
    folder = tmp_path / "bundle"
    shutil.copytree(run / "bundle", folder)
    done = _training(
        "evaluate", "--bundle", folder, "--data", dataset, "--renew", "9.8.7", "--resamples", "50"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = load_bundle(run / "bundle").manifest, load_bundle(folder).manifest
    assert (after.version, f"{after.name} 9.8.7" in after.citation) == ("9.8.7", True)
    assert after.files["model.onnx"] == before.files["model.onnx"]
    fitted, again = before.prediction_sets, after.prediction_sets
    assert again.thresholds == pytest.approx(fitted.thresholds, abs=1e-3)
    assert again.measured["overall"].value == pytest.approx(fitted.measured["overall"].value, abs=0.05)
    assert after.metrics == before.metrics
    assert before.metadata is not None
    assert after.metadata is not None
    again = after.metadata.prediction_sets
    assert again.thresholds == pytest.approx(before.metadata.prediction_sets.thresholds, abs=1e-3)
    assert after.metadata.metrics == before.metadata.metrics
    card, old_card = ((bundle / "MODEL_CARD.md").read_text() for bundle in (folder, run / "bundle"))
    assert card.startswith(f"# {after.name} 9.8.7\n")
    agreement = next(line for line in old_card.splitlines() if "agrees with Keras" in line)
    assert agreement in card.splitlines()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_bundle_is_not_evaluated_without_its_test_images(run: Path, tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "HAM", lesions=3)
    done = _training("evaluate", "--bundle", run / "bundle", "--data", other)
    assert done.returncode == 2
    assert "test images of the bundle are missing" in done.stderr


def test_a_member_is_taken_from_another_run_of_the_same_split(
    run: Path, dataset: Path, tmp_path: Path
) -> None:
    arguments = ("train", "--data", dataset, "--recipe", RECIPE, "--split", run / "split.csv")
    member = ("--member", "mobilenet_v2", "--trained", f"mobilenet_v2={run}")
    done = _training(*arguments, "--out", tmp_path / "second", *member)
    assert done.returncode == 0, done.stderr[-3000:]
    taken, original = (folder / "mobilenet_v2" / "network.keras" for folder in (tmp_path / "second", run))
    assert taken.read_bytes() == original.read_bytes()
    done = _training(*arguments, "--out", tmp_path / "third", "--color", "grey", *member)
    assert done.returncode == 2
    assert "mobilenet_v2 cannot be used, it differs in color" in done.stderr


def test_jax_trains_on_two_devices_and_tensorflow_evaluates(dataset: Path, tmp_path: Path) -> None:
    """Two simulated devices share every batch; the result is a normal Keras file."""
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    recipe = Path(__file__).with_name("scratch_recipe.py")
    command = [sys.executable, "-m", "training"]
    where = ["--data", str(dataset), "--out", str(tmp_path), "--recipe", str(recipe)]
    subprocess.run([*command, "prepare", *where[:4]], check=True, timeout=300)
    train = [*command, "train", *where, "--devices", "2"]
    done = subprocess.run(train, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "environment.json").read_text())["backend"] == "jax"
    scored = _training("evaluate", "--out", tmp_path, "--resamples", "20")
    assert scored.returncode == 0, scored.stderr[-3000:]
    environment["XLA_FLAGS"] = ""
    train[train.index(str(tmp_path))] = str(tmp_path / "one")
    train += ["--split", str(tmp_path / "split.csv")]
    refused = subprocess.run(train, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert refused.returncode == 2
    assert "--devices 2: found only 1" in refused.stderr


def test_a_finished_run_is_not_trained_again(run: Path, dataset: Path) -> None:
    before = (run / "mobilenet_v2" / "history.csv").read_bytes()
    done = _training("train", "--data", dataset, "--out", run, "--recipe", RECIPE)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (run / "mobilenet_v2" / "history.csv").read_bytes() == before


def test_a_run_continues_after_its_data_and_cache_have_moved(
    run: Path, dataset: Path, tmp_path: Path
) -> None:
    moved, cache, copy = tmp_path / "moved", tmp_path / "cache", tmp_path / "run"
    shutil.copytree(dataset, moved)
    shutil.copytree(run, copy)
    opened = Run.open(copy)
    resumed = Run.create(copy, opened.recipe, data=moved, split=copy / "split.csv", seed=0, cache=cache)
    assert all(row.path.is_relative_to(moved) for row in resumed.rows)
    resumed.pixels("validation", (8, 8))
    assert list(cache.glob("*.npy"))
    assert Run.open(copy).data == moved


def test_a_run_folder_is_refused_for_another_recipe(run: Path, dataset: Path) -> None:
    done = _training("train", "--data", dataset, "--out", run, "--recipe", "deck/ensemble")
    assert done.returncode == 2
    assert "holds a run with another recipe" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--out", "nowhere"], "not a run"),
        (["train", "--data", "nowhere", "--out", "out"], "expected the published HAM10000_metadata.csv"),
        (
            ["train", "--data", "nowhere", "--out", "out", "--recipe", "magic"],
            "no recipe 'magic'; expected one of",
        ),
        (["train", "--data", "d", "--out", "o", "--starting-weights", "x"], "MEMBER=imagenet|none|FILE"),
        (["train", "--data", "d", "--out", "o", "--max-epochs", "0"], "a whole number above 0, got '0'"),
    ],
)
def test_errors_are_reported_without_a_traceback(arguments: list[str], message: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-m", "training", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
