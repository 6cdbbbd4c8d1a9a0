from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.evaluation.comparison.synthetic_runs import (
    synthetic_predictions,
    synthetic_rows,
    write_run,
)
from training.evaluation.comparison.results import difference_table, result_table
from training.evaluation.comparison.runs import Group, group_runs, open_runs
from training.evaluation.comparison.scoring import COMPARED, differences, score_group
from training.metrics.scores import Predictions, bootstrap, scores

ROWS = synthetic_rows(420)
GOOD, BAD = synthetic_predictions(ROWS, skill=0.9, seed=1), synthetic_predictions(ROWS, skill=0.4, seed=2)


def _group(folder: Path, *predictions: Predictions, **members: Predictions) -> Group:
    folders = [write_run(folder / f"run{i}", ROWS, found, members) for i, found in enumerate(predictions)]
    (group,) = group_runs(open_runs(folders))
    return group


def test_the_tables_metrics_equal_those_of_scores_and_bootstrap(tmp_path: Path) -> None:
    (row,) = score_group(_group(tmp_path, GOOD), resamples=200)
    expected, intervals = scores(GOOD), bootstrap(GOOD, resamples=200)
    for name, metric in row.metrics.items():
        assert metric["value"] == pytest.approx(expected[name])
        assert metric == pytest.approx(intervals[name])
    table = result_table([row])
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert cells["balanced accuracy"].text == f"{expected['balanced_accuracy']:.3f}"
    assert cells["F1 mel"].text == f"{expected['f1_mel']:.3f}"
    assert cells["training seconds"].key == pytest.approx(30.5)
    assert cells["image size"].text == "64 × 64"
    assert cells["parameters"] == replace(cells["parameters"], text="–", key=None)


def test_a_clearly_better_run_excludes_zero_in_every_metric(tmp_path: Path) -> None:
    (pair,) = differences(score_group(_group(tmp_path, GOOD, BAD), resamples=300))
    assert (pair.first, pair.second) == ("run0", "run1")
    for name in COMPARED:
        assert pair.metrics[name]["low"] > 0.1
        assert pair.excludes_zero(name)
    row = difference_table([pair]).rows[0]
    assert all("excludes 0" in cell.note and cell.strong for cell in row[1:])


def test_a_run_does_not_differ_from_itself(tmp_path: Path) -> None:
    (pair,) = differences(score_group(_group(tmp_path, GOOD, GOOD), resamples=50))
    for name in COMPARED:
        assert pair.metrics[name] == {"value": 0.0, "low": 0.0, "high": 0.0}
        assert not pair.excludes_zero(name)


def test_equally_good_runs_seldom_exclude_zero(tmp_path: Path) -> None:
    """A 95 % interval excludes the true difference, here 0, one time in twenty."""
    alike = [synthetic_predictions(ROWS, skill=0.7, seed=seed) for seed in range(10, 30)]
    rows = score_group(_group(tmp_path, *alike), resamples=200)
    pairs = [differences(rows[index : index + 2])[0] for index in range(0, len(rows), 2)]
    missed = [pair.excludes_zero(name) for pair in pairs for name in COMPARED]
    assert sum(missed) <= 3  # of 30; 1.5 are expected


def test_pairing_narrows_the_interval_of_similar_runs(tmp_path: Path) -> None:
    """If two runs differ on few images, the interval of their difference is narrower than that of each."""
    changed = BAD.probabilities.copy()
    changed[:20] = GOOD.probabilities[:20]
    near = replace(BAD, probabilities=changed, decided=changed.argmax(axis=1))
    rows = score_group(_group(tmp_path, near, BAD), resamples=300)
    (pair,) = differences(rows)
    own, paired = rows[0].metrics["accuracy_rule"], pair.metrics["accuracy_rule"]
    assert paired["high"] - paired["low"] < 0.5 * (own["high"] - own["low"])


def test_a_baseline_is_paired_with_every_other_run(tmp_path: Path) -> None:
    group = _group(tmp_path, GOOD, BAD, GOOD)
    rows = score_group(group, resamples=20)
    found = [(pair.first, pair.second) for pair in differences(rows, group.runs[1])]
    assert found == [("run0", "run1"), ("run2", "run1")]
    stranger = replace(group.runs[1])
    assert differences(rows, stranger) == []


def test_members_have_rows_of_their_own_and_are_not_paired(tmp_path: Path) -> None:
    rows = score_group(_group(tmp_path, GOOD, one=GOOD, two=BAD), resamples=20)
    assert [row.name for row in rows] == ["run0", "run0 · one", "run0 · two"]
    assert rows[2].metrics["accuracy_rule"]["value"] == pytest.approx(scores(BAD)["accuracy_rule"])
    assert [row[0].note for row in result_table(rows).rows] == ["", "(member)", "(member)"]
    assert differences(rows) == []


def test_an_undefined_metric_is_left_out(tmp_path: Path) -> None:
    benign = np.flatnonzero(~GOOD.malignant[GOOD.labels])
    rows = [ROWS[index] for index in benign]
    predictions = [write_run(tmp_path / name, rows, p.take(benign)) for name, p in (("a", GOOD), ("b", BAD))]
    (group,) = group_runs(open_runs(predictions))
    scored = score_group(group, resamples=20)
    assert "malignancy_auc" not in scored[0].metrics
    table = difference_table(differences(scored))
    assert table.rows[0][table.columns.index("malignancy AUC")].text == "–"
    cells = dict(zip(result_table(scored).columns, result_table(scored).rows[0], strict=True))
    assert cells["malignancy sensitivity"].text == "–"
