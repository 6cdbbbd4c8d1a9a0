"""A run of a recipe of the catalogue, split by image, and its entry."""

from pathlib import Path

import pytest

from tests.synthetic_dataset import write_dataset
from training.__main__ import main
from training.recipes.entry import Measured
from training.run import read_json


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    data, out = write_dataset(folder / "HAM", lesions=6), folder / "run"
    assert (
        main(["prepare", "--data", str(data), "--out", str(out), "--split-by", "image", "--test", "14"]) == 0
    )
    train = ["train", "--data", str(data), "--out", str(out), "--recipe", "cnn_from_scratch/base"]
    assert main([*train, "--max-epochs", "2", "--batch-size", "16"]) == 0
    return out


def test_an_evaluated_run_becomes_an_entry(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "python -m training run --recipe cnn_from_scratch/base --data DIR --out RUN --max-epochs 2"
    arguments = ["recipes", "--measured", str(run), "--command", command]
    assert main(arguments) == 2
    assert "no metrics" in capsys.readouterr().err

    assert main(["evaluate", "--out", str(run), "--resamples", "20"]) == 0
    shown = capsys.readouterr().out
    assert "WARNING: split by image" in shown
    assert "malignancy precision " in shown
    metrics = read_json(run / "evaluation" / "metrics.json")
    assert metrics["split_by"] == "image"
    assert "The split is by image" in (run / "evaluation" / "report.md").read_text(encoding="utf-8")

    assert main(arguments) == 0
    found = eval(capsys.readouterr().out, {"Measured": Measured})
    assert found.command == command
    assert found.schedule == "cnn: 2 of 200 epochs, batch_size 16 instead of 32"
    assert (found.split_by, found.images) == ("image", 14)
    accuracy = metrics["as_published"]["diagnosis"]["accuracy"]
    assert found.accuracy == tuple(round(accuracy[key], 4) for key in ("value", "low", "high"))
    assert len(found.f1_by_class) == 7


def test_a_measured_run_needs_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--measured", "runs/any"]) == 2
    assert "--measured needs --command" in capsys.readouterr().err
