"""The command ``compare`` on synthetic runs."""

import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from tests.synthetic_dataset import write_dataset
from tests.training.evaluation.comparison.synthetic_runs import (
    synthetic_predictions,
    write_run,
    write_run_with_bundle,
)
from tests.training.evaluation.comparison.test_page import check_self_contained
from training.__main__ import main
from training.data.dataset import read_dataset


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return complete runs, incomplete runs, and a run of another task."""
    base = tmp_path_factory.mktemp("runs")
    data = write_dataset(base / "HAM", lesions=3)
    rows = read_dataset(data)
    predictions = synthetic_predictions(rows, skill=0.8)
    members = {"one": predictions, "two": synthetic_predictions(rows, skill=0.5, seed=1)}
    return {
        "full": write_run_with_bundle(base / "full", rows, data=data),
        "bare": write_run(base / "bare", rows, predictions, members, data=data, history=False),
        "moved": write_run(base / "moved", rows, predictions, data=base / "gone"),
        "binary": write_run(
            base / "binary", rows, synthetic_predictions(rows, skill=0.8, task="malignancy"), data=data,
            task="malignancy",
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def printed(folders: dict[str, Path], out: Path) -> str:
    """Return the output of the command, with the run "bare" as the baseline."""
    runs = [str(folder) for folder in folders.values()]
    with redirect_stdout(io.StringIO()) as stream:
        code = main(["compare", *runs, "--out", str(out), "--baseline", runs[1], "--resamples", "50"])
    assert code == 0
    return stream.getvalue()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out") / "deeper" / "report.html"


@pytest.fixture(scope="module")
def page(printed: str, out: Path) -> str:
    return out.read_text(encoding="utf-8")


def test_the_page_is_self_contained_and_has_every_section_for_each_group(page: str) -> None:
    found = check_self_contained(page)
    for title in (
        "Results", "Differences on the same lesions", "F1", "Confusion matrices",
        "ROC and precision-recall curves", "Calibration", "Grad-CAM by class", "Worst mistakes",
        "Ages and body sites",
    ):  # fmt: skip
        assert page.count(f">{title}</h3>") == 2
    assert page.count("Training curves</h2>") == 1
    assert page.count("Confusion matrix of") == 4
    assert page.count("Reliability diagram of") == 4
    assert len(found.images) > 40


def test_messages_replace_what_is_missing(page: str) -> None:
    assert "bare has no readable bundle" in page
    assert "bare · one has no readable history.csv" in page
    assert "Not shown: the data set cannot be read" in page
    assert "has no network.keras" in page


def test_another_task_is_not_ranked_with_the_others(printed: str) -> None:
    assert "evaluated on 2 different test parts or tasks" in printed
    diagnosis, malignancy = printed.split("## Malignancy")
    assert "| binary |" not in diagnosis
    assert "| binary |" in malignancy
    assert "The baseline bare was evaluated on other test images or another task" in malignancy


def test_all_runs_are_paired_with_the_baseline(printed: str) -> None:
    assert "| run − bare |" in printed
    assert "| moved − bare | 0.000 [0.000, 0.000] includes 0 |" in printed
    assert "| run − moved |" not in printed
    assert "bare · two (member)" in printed


def test_the_printed_tables_are_written_beside_the_page(printed: str, out: Path) -> None:
    assert out.with_suffix(".md").read_text(encoding="utf-8") in printed
    assert f"page: {out}" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{bare}", "--out", "report.pdf"], "ends in .html"),
        (["{bare}", "{bare}", "--out", "r.html"], "given twice"),
        (["{bare}/one", "--out", "r.html"], "not a run, expected"),
        (["{bare}", "--out", "r.html", "--baseline", "{full}"], "baseline: expected one of the runs"),
    ],
)
def test_runs_that_cannot_be_compared_give_an_error_with_its_reason(
    arguments: list[str], message: str, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *(argument.format(**folders) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err
