from pathlib import Path

import numpy as np
import pytest

from tests.training.evaluation.comparison.synthetic_runs import (
    synthetic_predictions,
    synthetic_rows,
    write_run,
)
from training.evaluation.comparison.runs import ComparisonError, group_runs, open_runs
from training.metrics.predictions import PredictionsError, save_predictions

ROWS = synthetic_rows(70)


def test_the_properties_of_a_run_are_read(tmp_path: Path) -> None:
    predictions = synthetic_predictions(ROWS, skill=0.7)
    folder = write_run(
        tmp_path / "a", ROWS, predictions, {"one": predictions, "two": predictions},
        image_size=[75, 100], color="grey", sites=["back"],
    )  # fmt: skip
    (run,) = open_runs([folder])
    assert (run.name, run.members, run.image_size, run.color) == ("a", ("one", "two"), (75, 100), "grey")
    assert run.task == "diagnosis (back only)"
    assert run.seconds("one") == pytest.approx(30.5)
    assert run.seconds() == pytest.approx(61.0)


def test_training_time_is_unknown_if_a_history_is_missing(tmp_path: Path) -> None:
    predictions = synthetic_predictions(ROWS, skill=0.7)
    folder = write_run(tmp_path / "a", ROWS, predictions, {"one": predictions, "two": predictions})
    (folder / "two" / "history.csv").unlink()
    (run,) = open_runs([folder])
    assert np.isnan(run.seconds())
    assert run.seconds("one") == pytest.approx(30.5)


def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match="not a run, expected a folder with"):
        open_runs([tmp_path])
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(ComparisonError, match=r"recipe\.json: cannot be read"):
        open_runs([tmp_path])


def test_a_run_that_is_not_evaluated_names_the_command(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", ROWS, synthetic_predictions(ROWS, skill=0.7))
    (folder / "evaluation" / "test.npz").unlink()
    with pytest.raises(PredictionsError, match="python -m training evaluate"):
        open_runs([folder])


def test_a_run_given_twice_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", ROWS, synthetic_predictions(ROWS, skill=0.7))
    with pytest.raises(ComparisonError, match="given twice"):
        open_runs([folder, folder / ".." / "a"])


def test_folders_with_equal_names_get_different_names(tmp_path: Path) -> None:
    predictions = synthetic_predictions(ROWS, skill=0.7)
    folders = [write_run(tmp_path / parent / "run", ROWS, predictions) for parent in ("x", "y")]
    assert [run.name for run in open_runs(folders)] == ["x/run", "y/run"]


def test_a_group_on_a_split_by_image_has_a_warning_in_its_title(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", ROWS, synthetic_predictions(ROWS, skill=0.7))
    for kind, warned in (("lesion", False), ("image", True)):
        (folder / "evaluation" / "metrics.json").write_text(f'{{"split_by": "{kind}"}}')
        (group,) = group_runs(open_runs([folder]))
        assert ("split by image: all metrics are too high" in group.title) == warned


def test_the_order_of_the_images_makes_no_difference(tmp_path: Path) -> None:
    predictions = synthetic_predictions(ROWS, skill=0.7)
    first = write_run(tmp_path / "a", ROWS, predictions)
    second = write_run(tmp_path / "b", ROWS, predictions)
    order = np.random.default_rng(0).permutation(len(ROWS))
    shuffled = [ROWS[index].image_id for index in order]
    save_predictions(second / "evaluation" / "test.npz", shuffled, predictions.take(order))
    runs = open_runs([first, second])
    assert len(group_runs(runs)) == 1
    assert (runs[0].predictions.probabilities == runs[1].predictions.probabilities).all()


def test_runs_with_other_images_or_tasks_form_other_groups(tmp_path: Path) -> None:
    others = synthetic_rows(70, lesions="M")
    folders = [
        write_run(tmp_path / "a", ROWS, synthetic_predictions(ROWS, skill=0.7)),
        write_run(tmp_path / "b", others, synthetic_predictions(others, skill=0.7)),
        write_run(
            tmp_path / "c", ROWS, synthetic_predictions(ROWS, skill=0.7, task="malignancy"), task="malignancy"
        ),
        write_run(tmp_path / "d", ROWS, synthetic_predictions(ROWS, skill=0.9)),
    ]
    groups = group_runs(open_runs(folders))
    assert [[run.name for run in group] for group in groups] == [["a", "d"], ["b"], ["c"]]
    assert [group.title for group in groups] == [
        "Diagnosis, 70 test images, split of a",
        "Diagnosis, 70 test images, split of b",
        "Malignancy, 70 test images",
    ]
