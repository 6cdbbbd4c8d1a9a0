"""``training.calibration.safeguards``: the drift reference, and thresholds that few images exceed."""

import numpy as np
import pytest

from models.manifest.safeguards import DriftReference
from training.calibration.safeguards import drift_reference, upper_threshold


def test_shares_of_decided_labels_and_of_confidence_by_hand() -> None:
    top = np.array([0.55, 0.59, 0.95, 1.0])
    probabilities = np.column_stack([top, 1 - top, np.zeros(4)])
    reference = drift_reference(probabilities, np.array([0, 0, 1, 0]), ("a", "b", "c"))
    assert reference["images"] == 4
    assert reference["labels"] == {"a": 0.75, "b": 0.25, "c": 0.0}
    assert reference["confidence"] == (0, 0, 0, 0, 0, 0.5, 0, 0, 0, 0.5)


def test_the_drift_reference_is_valid_in_a_manifest() -> None:
    p = np.random.default_rng(0).dirichlet((1, 1, 1), 333)
    found = DriftReference(**drift_reference(p, p.argmax(axis=1), ("a", "b", "c")))
    assert found.images == 333


def test_one_image_in_a_hundred_exceeds_the_threshold() -> None:
    scores = np.random.default_rng(0).gamma(2, 1, 5000)
    assert (scores > upper_threshold(scores)).mean() == pytest.approx(0.01, abs=2e-3)
    assert (scores <= upper_threshold(scores, 0.9)).mean() == pytest.approx(0.9, abs=2e-3)


@pytest.mark.parametrize("level", [0.0, 1e-3, 40.0, -7.0])
def test_equal_scores_do_not_exceed_the_threshold_even_in_float32(level: float) -> None:
    scores = np.full(50, level)
    again = (scores.astype(np.float32) + np.float32(1e-6 * max(1.0, abs(level)))).astype(np.float64)
    assert (again <= upper_threshold(scores)).all()
