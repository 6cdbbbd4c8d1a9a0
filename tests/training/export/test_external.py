"""A bundle evaluated on external images: official scores, without images on which it was fitted."""

import csv
import io
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from isic_challenge_scoring.classification import ClassificationMetric, ClassificationScore

from models.bundle import load_bundle, save_bundle
from models.labels import HAM10000_LABELS
from tests.synthetic import draw_lesion
from tests.synthetic_dataset import write_dataset
from training.__main__ import main
from training.data.dataset import DataError, read_dataset
from training.export.external import read_truth, score_external

CODES = tuple(label.code for label in HAM10000_LABELS)


def write_truth(path: Path, rows: dict[str, str], *, columns: tuple[str, ...] = CODES) -> Path:
    """Write the ground truth in the challenge's layout; ``rows`` maps image ids to codes."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", *(code.upper() for code in columns)])
        for image_id, dx in rows.items():
            writer.writerow([image_id, *(float(code == dx) for code in columns)])
    return path


@pytest.fixture(scope="module")
def images() -> dict[str, str]:
    return {f"other_{number:02d}": CODES[number % len(CODES)] for number in range(28)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, images: dict[str, str]) -> Path:
    folder = tmp_path_factory.mktemp("outside")
    for number, (image_id, code) in enumerate(images.items()):
        draw_lesion(np.random.default_rng(number), code=code).save(folder / f"{image_id}.jpg", quality=90)
    return folder


@pytest.fixture(scope="module")
def truth(folder: Path, images: dict[str, str]) -> Path:
    return write_truth(folder / "truth.csv", images)


@pytest.fixture(scope="module")
def report(shipped_bundle: Path, folder: Path, truth: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    score_external(shipped_bundle, folder, truth, out, resamples=20)
    return out


def official(truth: Path, submission: Path) -> ClassificationScore:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ClassificationScore.from_stream(
            io.StringIO(truth.read_text()),
            io.StringIO(submission.read_text()),
            ClassificationMetric.BALANCED_ACCURACY,
        )


def test_scores_equal_those_of_the_official_scorer(report: Path, truth: Path) -> None:
    ours = json.loads((report / "metrics.json").read_text())["test"]
    by_probability = official(truth, report / "probabilities.csv")
    by_decision = official(truth, report / "decisions.csv")
    assert ours["balanced_accuracy_argmax"]["value"] == pytest.approx(by_probability.overall, abs=1e-12)
    assert ours["balanced_accuracy"]["value"] == pytest.approx(by_decision.overall, abs=1e-12)
    for code in CODES:
        auc = by_probability.per_category.at[code.upper(), "auc"]
        assert ours[f"auc_{code}"]["value"] == pytest.approx(auc, abs=1e-12)


def test_the_report_names_the_bundle_and_its_plots_exist(report: Path, shipped_bundle: Path) -> None:
    text = (report / "report.md").read_text()
    manifest = load_bundle(shipped_bundle).manifest
    assert text.startswith(f"# {manifest.name} {manifest.version} on other images")
    assert "Near-duplicates of its training images were not searched for" in text
    assert "## As the published systems score" in text
    for plot in ("confusion_matrix", "roc", "reliability"):
        assert f"({plot}.png)" in text
        assert (report / f"{plot}.png").stat().st_size > 1000


@pytest.mark.parametrize(("part", "scored"), [("train", False), ("validation", False), ("test", True)])
def test_images_on_which_the_bundle_was_fitted_are_not_scored(
    shipped_bundle: Path, folder: Path, images: dict[str, str], tmp_path: Path, part: str, scored: bool
) -> None:
    with (shipped_bundle / "split.csv").open(newline="") as stream:
        known = next(record["image_id"] for record in csv.DictReader(stream) if record["part"] == part)
    draw_lesion(np.random.default_rng(99)).save(tmp_path / f"{known}.jpg")
    for path in folder.glob("*.jpg"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    truth = write_truth(tmp_path / "truth.csv", images | {known: "nv"})
    found = score_external(shipped_bundle, tmp_path, truth, tmp_path / "report", resamples=5)
    assert (known not in found.excluded) == scored
    assert found.metrics["images"] == len(images) + scored


def test_a_known_image_under_another_id_is_not_scored(
    shipped_bundle: Path, folder: Path, images: dict[str, str], tmp_path: Path
) -> None:
    data = write_dataset(tmp_path / "data", lesions=4)
    rows = read_dataset(data)
    bundle = shutil.copytree(shipped_bundle, tmp_path / "bundle")
    with (bundle / "split.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image_id", "lesion_id", "dx", "part"])
        writer.writerows([row.image_id, row.lesion_id, row.dx, "train"] for row in rows)
    save_bundle(bundle, load_bundle(shipped_bundle).manifest)
    outside = shutil.copytree(folder, tmp_path / "outside")
    shutil.copy(rows[0].path, outside / "renamed.jpg")
    truth = write_truth(tmp_path / "truth.csv", images | {"renamed": rows[0].dx})
    found = score_external(bundle, outside, truth, tmp_path / "report", data=data, resamples=5)
    assert f"near-duplicate of {rows[0].image_id} in the train part" in found.excluded["renamed"]
    report = (tmp_path / "report" / "report.md").read_text()
    assert "renamed" in report
    assert "Near-duplicates of its training and validation images were searched for" in report


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("other_00,1.0,1.0,0,0,0,0,0", "1 in the column of one class"),
        ("other_00,0,0,0,0,0,0,0", "1 in the column of one class"),
        ("other_00,0.7,0.3,0,0,0,0,0", "1 in the column of one class"),
        ("other_00,1,,0,0,0,0,0", "1 in the column of one class"),
        ("missing,1,0,0,0,0,0,0", "no image file for missing"),
        ("other_00,1,0,0,0,0,0,0\nother_00,1,0,0,0,0,0,0", "occurs twice"),
    ],
)
def test_an_ambiguous_ground_truth_is_refused(folder: Path, tmp_path: Path, line: str, problem: str) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text(",".join(["image", *CODES]) + f"\n{line}\n")
    with pytest.raises(DataError, match=problem):
        read_truth(truth, folder, CODES)


def test_other_classes_are_refused_by_name(folder: Path, tmp_path: Path, images: dict[str, str]) -> None:
    truth = write_truth(tmp_path / "truth.csv", images, columns=(*CODES, "scc"))
    with pytest.raises(DataError, match="SCC"):
        read_truth(truth, folder, CODES)


def test_a_set_without_other_images_is_refused(shipped_bundle: Path, tmp_path: Path) -> None:
    with (shipped_bundle / "split.csv").open(newline="") as stream:
        known = next(record["image_id"] for record in csv.DictReader(stream) if record["part"] == "train")
    draw_lesion(np.random.default_rng(1)).save(tmp_path / f"{known}.jpg")
    truth = write_truth(tmp_path / "truth.csv", {known: "nv"})
    with pytest.raises(DataError, match="no image remains"):
        score_external(shipped_bundle, tmp_path, truth, tmp_path / "report")


def test_the_command_needs_images_and_truth_together(
    shipped_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--bundle", str(shipped_bundle), "--images", str(tmp_path)]) != 0
    assert "--images needs --truth" in capsys.readouterr().err


def test_decisions_are_the_labels_of_the_api(report: Path, shipped_bundle: Path) -> None:
    def columns(name: str) -> np.ndarray:
        return np.loadtxt(report / name, delimiter=",", skiprows=1, usecols=range(1, 1 + len(CODES)))

    rule = load_bundle(shipped_bundle).manifest.decision_rule
    prior = np.array([rule.prior[code] for code in CODES])
    expected = (columns("probabilities.csv") / prior**rule.tau).argmax(axis=1)
    assert (columns("decisions.csv").argmax(axis=1) == expected).all()
