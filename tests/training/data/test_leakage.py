"""Nothing before the final evaluation reads a test image, and no split leaks by accident.

``prepare`` decodes every image to find damaged files and near-duplicates. This comes before training and
influences no metric. ``train`` and all later steps do not open test images.
"""

import json
from pathlib import Path

import pytest

from tests.synthetic_dataset import write_dataset
from training.__main__ import main
from training.data.dataset import Row, read_dataset
from training.data.split import read_split, rows_of
from training.evaluation.evaluate import calibrate, load_networks
from training.run import Run

RECIPE = str(Path(__file__).parents[1] / "scratch_recipe.py")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "HAM", lesions=6)


def _destroy(rows: list[Row]) -> dict[Path, bytes]:
    kept = {row.path: row.path.read_bytes() for row in rows}
    for path in kept:
        path.write_bytes(b"this is no image")
    return kept


def test_training_and_calibration_never_read_a_test_image(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["prepare", "--data", str(dataset), "--out", str(out)]) == 0
    rows = read_dataset(dataset)
    test = rows_of(rows, read_split(out / "split.csv", rows), "test")
    kept = _destroy(test)

    assert main(["train", "--data", str(dataset), "--out", str(out), "--recipe", RECIPE]) == 0
    run = Run.open(out)
    calibrate(run, load_networks(run))
    assert (out / "calibration.json").is_file()

    capsys.readouterr()
    assert main(["evaluate", "--out", str(out), "--resamples", "20"]) == 2
    assert any(row.image_id in capsys.readouterr().err for row in test)
    assert not (out / "evaluation" / "test.npz").exists()

    for path, data in kept.items():  # only now is there something to score
        path.write_bytes(data)
    assert main(["evaluate", "--out", str(out), "--resamples", "20"]) == 0
    figures = json.loads((out / "evaluation" / "metrics.json").read_text())
    assert 0 <= figures["test"]["accuracy_rule"]["value"] <= 1


def test_a_split_with_a_lesion_in_two_parts_is_refused_unless_it_is_by_image(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_image = tmp_path / "by_image"
    assert main(["prepare", "--data", str(dataset), "--out", str(by_image), "--split-by", "image"]) == 0
    marked = by_image / "split.csv"
    bare = tmp_path / "bare.csv"
    lines = marked.read_text().splitlines()
    bare.write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")

    train = ["train", "--data", str(dataset), "--recipe", RECIPE, "--max-epochs", "1"]
    assert main([*train, "--out", str(tmp_path / "refused"), "--split", str(bare)]) == 2
    assert "not marked as a split by image" in capsys.readouterr().err
    assert not (tmp_path / "refused" / "cnn").exists()

    assert main([*train, "--out", str(tmp_path / "run"), "--split", str(marked)]) == 0
    kept = read_split(tmp_path / "run" / "split.csv", read_dataset(dataset))
    assert kept.by == "image"
