"""``training.metrics.subgroups``: the group of an image, and the metrics a group is large enough for."""

from pathlib import Path

import numpy as np
import pytest

from models.manifest.safeguards import Subgroup
from training.data.dataset import Row
from training.metrics.scores import Predictions, scores
from training.metrics.subgroups import MIN_IMAGES, age_band, site, subgroups


def _row(age: float | None = 50.0, sex: str = "female", localization: str = "back") -> Row:
    return Row("i", "l", "nv", "histo", age, sex, localization, Path("i.jpg"))


def _predictions(labels: np.ndarray) -> Predictions:
    p = np.random.default_rng(0).dirichlet((1, 1), len(labels))
    return Predictions(
        p, p.argmax(axis=1), labels, np.arange(len(labels)).astype(str), ("benign", "malignant"),
        np.array([False, True]), 0.5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("age", "band"),
    [(None, "unknown"), (5.0, "0-39"), (35.0, "0-39"), (40.0, "40-59"), (60.0, "60+"), (85.0, "60+")],
)
def test_age_bands(age: float | None, band: str) -> None:
    assert age_band(_row(age=age)) == band


@pytest.mark.parametrize(
    ("localization", "group"),
    [
        ("scalp", "head and neck"),
        ("chest", "torso"),
        ("foot", "lower extremity"),
        ("hand", "upper extremity"),
        ("unknown", "unknown"),
        ("genital", "other"),
        ("somewhere", "other"),
    ],
)
def test_sites_are_grouped(localization: str, group: str) -> None:
    assert site(_row(localization=localization)) == group


def test_groups_are_scored_on_their_own_images_only() -> None:
    predictions = _predictions(np.arange(200) % 2)
    rows = [_row(sex="female" if i < 120 else "male") for i in range(200)]
    found = {(g["factor"], g["value"]): g for g in subgroups(predictions, rows, resamples=50)}
    assert set(found) == {("age", "40-59"), ("sex", "female"), ("sex", "male"), ("site", "torso")}
    women = found["sex", "female"]
    assert women["images"] == 120
    own = scores(predictions.take(np.arange(120)))
    assert {name: figure["value"] for name, figure in women["metrics"].items()} == {
        name: own[name]
        for name in (
            "balanced_accuracy",
            "accuracy_rule",
            "malignancy_sensitivity",
            "malignancy_specificity",
            "malignancy_auc",
        )
    }
    assert Subgroup(**women).metrics["accuracy_rule"].low <= own["accuracy_rule"]


def test_a_small_group_is_left_out() -> None:
    count = 100 + MIN_IMAGES - 1
    rows = [_row(sex="female" if i < 100 else "unknown") for i in range(count)]
    found = subgroups(_predictions(np.arange(count) % 2), rows, resamples=20)
    assert [g["value"] for g in found if g["factor"] == "sex"] == ["female"]


@pytest.mark.parametrize(
    ("malignant", "metrics"),
    [
        (0, {"accuracy_rule", "malignancy_specificity"}),
        (4, {"accuracy_rule", "malignancy_specificity"}),
        (5, {"accuracy_rule", "malignancy_specificity", "balanced_accuracy"}),
        (
            10,
            {
                "accuracy_rule",
                "malignancy_specificity",
                "malignancy_sensitivity",
                "malignancy_auc",
                "balanced_accuracy",
            },
        ),
        (50, {"accuracy_rule", "malignancy_sensitivity"}),
    ],
)
def test_a_metric_needs_enough_images(malignant: int, metrics: set[str]) -> None:
    labels = (np.arange(50) < malignant).astype(int)
    (group, *_) = subgroups(_predictions(labels), [_row()] * 50, resamples=20)
    assert set(group["metrics"]) == metrics
