import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.synthetic_dataset import write_dataset
from training.__main__ import main
from training.data.dataset import read_dataset
from training.evaluation.crossvalidate import pool, table, write_out_of_fold
from training.metrics.predictions import PredictionsError, SavedPredictions, load_predictions
from training.metrics.scores import scores

CODES = ("mel", "nv")
RECIPE = str(Path(__file__).parents[1] / "scratch_recipe.py")


def _fold(number: int, *, threshold: float = 0.5, images: int = 40) -> SavedPredictions:
    """Return predictions of which nine in ten are correct, for lesions with two images each."""
    rng = np.random.default_rng(number)
    labels = np.arange(images) // 2 % 2
    sure = np.where(rng.uniform(size=images) < 0.9, 0.7, 0.3) + rng.uniform(-0.2, 0.2, size=images)
    probabilities = np.where(labels[:, None] == np.arange(2), sure[:, None], 1 - sure[:, None])
    return SavedPredictions(
        image_id=np.array([f"I{7 * n % images:03d}_{number}" for n in range(images)]),
        lesion_id=np.array([f"L{n // 2}_{number}" for n in range(images)]),
        labels=labels,
        probabilities=probabilities,
        decided=probabilities.argmax(axis=1),
        codes=CODES,
        malignant=np.array([True, False]),
        threshold=threshold,
        members=("a", "b"),
        member_probabilities=np.stack([probabilities, probabilities[:, ::-1]]),
        member_decided=np.stack([probabilities.argmax(axis=1), probabilities.argmin(axis=1)]),
    )


def test_every_image_keeps_the_predictions_of_its_fold() -> None:
    folds = [_fold(1), _fold(2), _fold(3)]
    pooled = pool(folds)
    assert pooled.image_id.tolist() == sorted(i for fold in folds for i in fold.image_id.tolist())
    place = {image_id: index for index, image_id in enumerate(pooled.image_id.tolist())}
    for fold in folds:
        at = [place[image_id] for image_id in fold.image_id.tolist()]
        assert (pooled.probabilities[at] == fold.probabilities).all()
        assert (pooled.labels[at] == fold.labels).all()
        assert (pooled.lesion_id[at] == fold.lesion_id).all()
        assert (pooled.member_probabilities[:, at] == fold.member_probabilities).all()
        assert (pooled.member_decided[:, at] == fold.member_decided).all()


def test_an_image_in_two_folds_is_refused() -> None:
    with pytest.raises(PredictionsError, match="an image occurs twice"):
        pool([_fold(1), _fold(1)])


def test_folds_of_different_recipes_are_refused() -> None:
    with pytest.raises(PredictionsError, match="classes or members differ"):
        pool([_fold(1), replace(_fold(2), members=("a", "c"))])


def test_the_pooled_metrics_are_computed_over_all_images(tmp_path: Path) -> None:
    folds = [_fold(1), _fold(2), _fold(3)]
    metrics = write_out_of_fold(tmp_path, folds, resamples=200)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    saved = load_predictions(tmp_path / "out_of_fold.npz")
    right = sum((fold.decided == fold.labels).sum() for fold in folds)
    accuracy = metrics["out_of_fold"]["accuracy_rule"]
    assert accuracy["value"] == right / 120 == scores(saved.ensemble)["accuracy_rule"]
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert [fold["accuracy_rule"] for fold in metrics["folds"]] == [
        scores(f.ensemble)["accuracy_rule"] for f in folds
    ]
    assert set(metrics["members"]) == {"a", "b"}
    assert metrics["members"]["b"]["accuracy_rule"] == pytest.approx(1 - accuracy["value"])


def test_each_image_is_flagged_by_the_threshold_of_its_fold(tmp_path: Path) -> None:
    # At 0 everything is flagged, above 1 nothing is.
    folds = [_fold(1, threshold=0.0), _fold(2, threshold=1.1)]
    metrics = write_out_of_fold(tmp_path, folds, resamples=200)
    assert metrics["thresholds"] == [0.0, 1.1]
    for name in ("malignancy_sensitivity", "malignancy_specificity"):
        figure = metrics["out_of_fold"][name]
        assert figure["value"] == 0.5
        assert 0.2 < figure["low"] < 0.5 < figure["high"] < 0.8


def test_the_table_shows_pooled_metrics_and_their_deviation_over_the_folds(tmp_path: Path) -> None:
    folds = [_fold(1), _fold(2), _fold(3)]
    metrics = write_out_of_fold(tmp_path, folds, resamples=200)
    values = [scores(fold.ensemble)["accuracy_rule"] for fold in folds]
    [line] = [line for line in table(metrics).splitlines() if line.startswith("accuracy_rule ")]
    figure = metrics["out_of_fold"]["accuracy_rule"]
    assert f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]" in line
    assert line.endswith(f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}")


def test_the_folds_are_trained_once_and_their_test_predictions_pooled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, out = write_dataset(tmp_path / "HAM", lesions=6), tmp_path / "folds"
    command = ["crossvalidate", "--data", str(dataset), "--out", str(out), "--folds", "3"]
    command += ["--recipe", RECIPE, "--resamples", "20"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert shown.count("fold 2 of 3") == 1
    assert "out of fold" in shown
    rows = read_dataset(dataset)
    pooled = load_predictions(out / "out_of_fold.npz")
    assert pooled.image_id.tolist() == [row.image_id for row in rows]
    assert pooled.labels.tolist() == [row.label for row in rows]
    second = load_predictions(out / "fold-2" / "evaluation" / "test.npz")
    at = np.searchsorted(pooled.image_id, second.image_id)
    assert (pooled.probabilities[at] == second.probabilities).all()
    metrics = json.loads((out / "metrics.json").read_text())
    assert len(metrics["folds"]) == 3
    assert 0 <= metrics["out_of_fold"]["balanced_accuracy"]["value"] <= 1

    trained = {file: file.stat().st_mtime_ns for file in out.glob("fold-*/cnn/network.keras")}
    assert len(trained) == 3
    assert main(command) == 0
    assert trained == {file: file.stat().st_mtime_ns for file in trained}
    assert json.loads((out / "metrics.json").read_text()) == metrics


def test_a_cross_validation_accepts_no_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["crossvalidate", "--data", "unused", "--out", str(tmp_path / "out")]
    assert main([*command, "--split", "some.csv"]) == 2
    assert "makes its own splits" in capsys.readouterr().err
