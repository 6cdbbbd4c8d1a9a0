"""``training.evaluation.report``: the report on seven or two classes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.labels import HAM10000_LABELS, Label
from training.calibration.combination import Combination
from training.calibration.conformal import measure_prediction_sets
from training.calibration.fit import Calibration
from training.data.dataset import Row, classes_of
from training.data.split import SplitBy
from training.evaluation.as_published import score_as_published
from training.evaluation.report import write_report
from training.evaluation.specialists import plot_specialists
from training.markdown import format_metric
from training.metrics.scores import Predictions, bootstrap, scores
from training.metrics.subgroups import subgroups
from training.recipe import MemberRecipe, Recipe
from training.run import Run


class _FinishedRun(Run):
    """A run that needs no files."""

    by: SplitBy = "lesion"

    @property
    def split_by(self) -> SplitBy:
        return self.by

    def part(self, part: str) -> list[Row]:
        count = {"train": 30, "validation": 6, "test": 8}[part]
        return [
            Row(f"{part}_{i}", f"{part}_{i // 2}", "nv", "histo", 50.0, "male", "back", Path("i.jpg"))
            for i in range(count)
        ]


def _predictions(labels: tuple[Label, ...]) -> Predictions:
    count, codes = 40 * len(labels), tuple(label.code for label in labels)
    truth = np.arange(count) % len(codes)
    p = np.random.default_rng(0).dirichlet(np.ones(len(codes)), count) * 0.6 + 0.4 * np.eye(len(codes))[truth]
    return Predictions(
        p, p.argmax(axis=1), truth, np.arange(count).astype(str), codes,
        np.array([label.malignant for label in labels]), 0.4,
    )  # fmt: skip


def _write(
    folder: Path,
    labels: tuple[Label, ...],
    members: tuple[str, ...],
    specialists: dict[str, Predictions] | None = None,
) -> tuple[str, dict[str, Any]]:
    test = _predictions(labels)
    rows = [
        Row(str(i), str(i), "nv", "histo", 70.0, ("male", "female")[i % 2], "face", Path("i.jpg"))
        for i in range(len(test.labels))
    ]
    share = 1 / len(members)
    recipe = Recipe("shape/of-tests", tuple(MemberRecipe(m, "mobilenet", (), weight=share) for m in members))
    calibration = Calibration(
        Combination("mean", (share,) * len(members), ((),) * len(members)),
        (1.5,) * len(members), ((0.0,) * len(labels),) * len(members), (1 / len(labels),) * len(labels),
        0.5, 0.4,
    )  # fmt: skip
    run = _FinishedRun(folder, recipe, data=folder, seed=0, cache=folder)
    metrics = {
        "split_by": run.split_by,
        "as_published": score_as_published(test, resamples=20),
        "test": bootstrap(test, resamples=20),
        "validation": bootstrap(test, resamples=20, seed=1),
        "members": {member: scores(test) for member in members},
        "prediction_sets": measure_prediction_sets(test, np.full(len(labels), 0.2), resamples=20),
        "subgroups": subgroups(test, rows, resamples=20),
    }
    write_report(folder, run, calibration, metrics, test, specialists or {})
    return (folder / "report.md").read_text(encoding="utf-8"), metrics


@pytest.mark.parametrize(
    ("labels", "members"),
    [(HAM10000_LABELS, ("a", "b")), (classes_of("malignancy").labels, ("alone",))],
    ids=["seven classes, two members", "two classes, one member"],
)
def test_a_report_has_metrics_by_class_member_set_and_subgroup(
    tmp_path: Path, labels: tuple[Label, ...], members: tuple[str, ...]
) -> None:
    report, metrics = _write(tmp_path, labels, members)
    overall = metrics["test"]["micro_f1"]
    assert f"| micro F1 | {overall['value']:.3f} [{overall['low']:.3f}, {overall['high']:.3f}] |" in report
    assert "| train | 30 | 15 |" in report
    for label in labels:
        covered = metrics["prediction_sets"]["measured"][label.code]["value"]
        assert f"\n| {label.code} | {covered:.3f} [" in report
        assert f"\n| {label.code} | 40 | " in report
    for member in members:
        assert f"\n| {member} | " in report
    for group in ("age 60+", "sex female", "sex male", "site head and neck"):
        assert f"\n| {group} | " in report
    assert "{" not in report
    for block in report.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


def test_a_report_states_how_the_split_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report, _ = _write(tmp_path, classes_of("malignancy").labels, ("alone",))
    assert "no lesion lies in two parts" in report
    monkeypatch.setattr(_FinishedRun, "by", "image")
    report, _ = _write(tmp_path, classes_of("malignancy").labels, ("alone",))
    assert "no lesion lies in two parts" not in report
    assert "Warning: split by image" in report
    assert "The split is by image, as theirs are" in report


def test_a_report_compares_the_most_probable_class_with_the_published_systems(tmp_path: Path) -> None:
    report, metrics = _write(tmp_path, HAM10000_LABELS, ("a", "b"))
    section = report.partition("## As the published systems score")[2].partition("\n## ")[0]
    found = metrics["as_published"]
    macro_f1 = format_metric(found["diagnosis"]["macro_f1"])
    assert f"| diagnosis | macro F1 | {macro_f1} | 0.639 | `mobilenet_efficientnet/ensemble` |" in section
    precision = format_metric(found["malignancy"]["precision"])
    assert f"| malignancy | precision | {precision} | 0.806 | `benign_malignant/ensemble` |" in section
    melanoma = format_metric(found["diagnosis"]["f1_mel"])
    assert f"| mel | {melanoma} | 0.48 | 0.47 |" in section
    assert "lower_extremity" not in section  # on part of the images only


def test_a_report_on_two_classes_is_compared_with_systems_of_two_classes(tmp_path: Path) -> None:
    report, _ = _write(tmp_path, classes_of("malignancy").labels, ("alone",))
    section = report.partition("## As the published systems score")[2].partition("\n## ")[0]
    assert "| malignancy | accuracy | " in section
    assert "diagnosis" not in section


def test_a_report_has_the_confusion_matrix_of_each_specialist(tmp_path: Path) -> None:
    pair = replace(_predictions(classes_of("malignancy").labels), codes=("mel", "nv"))
    report, _ = _write(tmp_path, HAM10000_LABELS, ("a",), {"mel_nv": pair})
    accuracy = (pair.decided == pair.labels).mean()
    assert f"| mel_nv | mel, nv | 80 | {accuracy:.3f} |" in report
    plot_specialists(tmp_path, {"mel_nv": pair})
    picture = report.partition("![Confusion matrix of mel_nv](")[2].partition(")")[0]
    with Image.open(tmp_path / picture) as image:
        assert min(image.size) > 200


def test_a_report_marks_the_metrics_of_the_most_probable_class(tmp_path: Path) -> None:
    report, metrics = _write(tmp_path, HAM10000_LABELS, ("a", "b"))
    rule, argmax = (metrics["test"][f"accuracy_{name}"]["value"] for name in ("rule", "argmax"))
    assert f"| accuracy | {rule:.3f} [" in report
    assert f"| accuracy of the most probable class (arg-max) | {argmax:.3f} [" in report


def test_every_plot_of_a_report_exists(tmp_path: Path) -> None:
    report, _ = _write(tmp_path, classes_of("malignancy").labels, ("alone",))
    pictures = [line.partition("](")[2][:-1] for line in report.splitlines() if line.startswith("![")]
    assert len(pictures) == 4
    for picture in pictures:
        with Image.open(tmp_path / picture) as image:
            assert min(image.size) > 200
