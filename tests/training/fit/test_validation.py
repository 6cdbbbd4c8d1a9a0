import numpy as np
import pytest

from training.fit.validation import validation_metrics


def test_rare_and_frequent_classes_count_equally_in_the_macro_loss() -> None:
    """Two networks that each fail on one class have the same macro loss, but different losses."""
    labels = np.repeat([0, 1], [90, 10])
    sure = 8.0 * np.eye(2)[labels]
    found = []
    for blind_to in (0, 1):
        logits = np.where((labels == blind_to)[:, None], 0.0, sure)
        found.append(validation_metrics(logits, labels, np.zeros(2), np.zeros(2)))
    assert found[0]["macro_loss"] == pytest.approx(found[1]["macro_loss"], rel=1e-3)
    assert found[0]["loss"] > 2 * found[1]["loss"]


def test_validation_metrics_do_not_depend_on_a_factor_on_the_logits() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 500)
    logits = np.eye(3)[labels] + rng.normal(size=(500, 3))
    shift = np.array([0.5, 0.0, -0.5])
    found = []
    for factor in (1.0, 4.0):
        found.append(validation_metrics(factor * logits, labels, shift, np.zeros(3)))
    assert found[1] == pytest.approx(found[0], abs=1e-4)
    assert found[0]["loss"] < np.log(3)
