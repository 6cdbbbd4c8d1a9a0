"""``training.calibration.conformal``: thresholds computed by hand, coverage by simulation, measurements."""

import numpy as np
import pytest

from models.errors import DermaserveError
from training.calibration.conformal import (
    cross_fitted_sets,
    fit_prediction_sets,
    measure_prediction_sets,
    measure_sets,
    prediction_sets,
)
from training.metrics.scores import Predictions

SHARES = (0.06, 0.24, 0.7)


def _predictions(count: int, seed: int = 0) -> Predictions:
    """Return predictions that favour the frequent class, so one threshold cannot cover the rare one."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=SHARES)
    logits = rng.normal(0, 1, (count, 3)) + 1.5 * np.eye(3)[labels] + np.log(SHARES)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(
        probabilities,
        (probabilities / SHARES).argmax(axis=1),
        labels,
        np.array([str(i) for i in range(count)]),
        ("rare", "some", "most"),
        np.array([True, False, False]),
        0.3,
    )


def test_a_threshold_is_the_finite_sample_quantile_computed_by_hand() -> None:
    # Nine images of class 0: ⌈10 · 0.8⌉ = 8 must be covered, so the second smallest is the threshold.
    own = np.array([0.9, 0.1, 0.8, 0.3, 0.7, 0.4, 0.6, 0.5, 0.95]) / 2.2
    p = np.column_stack([own, 1 - own])
    thresholds = fit_prediction_sets(p, np.zeros(9, int), np.ones(9, int), 0.8)
    assert thresholds[0] == np.floor(0.3 / 2.2 * 1e6) / 1e6
    assert ((own >= thresholds[0]).sum()) == 8


@pytest.mark.parametrize(("images", "always"), [(8, True), (9, False)])
def test_a_class_of_too_few_images_is_always_in_the_set(images: int, always: bool) -> None:
    p = np.column_stack([np.linspace(0.1, 0.4, images), np.linspace(0.9, 0.6, images)])
    thresholds = fit_prediction_sets(p, np.zeros(images, int), np.ones(images, int), 0.9)
    assert (thresholds[0] == 0.0) == always
    assert thresholds[1] == 0.0  # no image at all


def test_an_image_whose_label_or_most_probable_class_is_right_is_covered_by_any_threshold() -> None:
    # Five of nine images have class 0 in their sets anyway; of the others three more must be covered.
    own = np.array([0.9, 0.8, 0.7, 0.1, 0.2, 0.4, 0.35, 0.3, 0.25])
    decided = np.array([1, 1, 0, 0, 0, 1, 1, 1, 1])
    p = np.column_stack([own, 1 - own])
    thresholds = fit_prediction_sets(p, np.zeros(9, int), decided, 0.8)
    assert thresholds[0] == 0.3
    assert prediction_sets(p, thresholds, decided)[:, 0].sum() == 8


def test_a_class_that_is_nearly_always_found_gets_the_threshold_one() -> None:
    p = np.column_stack([np.full(20, 0.6), np.full(20, 0.4)])
    thresholds = fit_prediction_sets(p, np.zeros(20, int), np.zeros(20, int), 0.9)
    assert thresholds[0] == 1.0
    other = np.array([[0.45, 0.55]])
    np.testing.assert_array_equal(prediction_sets(other, thresholds, np.array([1])), [[False, True]])


def test_every_class_has_its_coverage_on_new_data() -> None:
    """The guarantee is about the mean over calibration parts; it also holds for the rare class."""
    fresh = _predictions(20_000, seed=1000)
    covered = np.zeros(3)
    for seed in range(40):
        calibration = _predictions(400, seed)
        thresholds = fit_prediction_sets(
            calibration.probabilities, calibration.labels, calibration.decided, 0.9
        )
        inside = prediction_sets(fresh.probabilities, thresholds, fresh.decided)
        right = inside[np.arange(20_000), fresh.labels]
        covered += [right[fresh.labels == c].mean() / 40 for c in range(3)]
    np.testing.assert_array_less(0.885, covered)
    # 24 images are coarser than 280. The frequent class is the most probable one of more images than needed.
    np.testing.assert_array_less(covered, (0.96, 0.925, 0.97))


def test_the_decided_and_the_most_probable_class_are_in_the_set_even_below_their_thresholds() -> None:
    p = np.array([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]])
    inside = prediction_sets(p, np.array([0.9, 0.9, 0.9]), np.array([0, 0]))
    np.testing.assert_array_equal(inside, [[True, True, False], [True, False, False]])


def test_coverage_and_size_are_measured_by_class_with_intervals() -> None:
    predictions = _predictions(600)
    inside = np.zeros((600, 3), bool)
    inside[:, 2] = True
    inside[predictions.labels == 0] = True
    measured = measure_sets(predictions, inside, resamples=200)
    assert {code: figure["value"] for code, figure in measured["measured"].items()} == pytest.approx(
        {"overall": (predictions.labels != 1).mean(), "rare": 1.0, "some": 0.0, "most": 1.0}
    )
    assert measured["size"]["rare"]["value"] == 3.0
    overall = measured["size"]["overall"]
    # Classes keep their size in every resample, so only what varies within a class has a spread.
    assert overall["low"] == overall["value"] == overall["high"]


def test_thresholds_are_measured_by_the_sets_that_they_give() -> None:
    predictions, thresholds = _predictions(300), np.array([0.1, 0.3, 0.5])
    inside = prediction_sets(predictions.probabilities, thresholds, predictions.decided)
    measured = measure_prediction_sets(predictions, thresholds, resamples=20)
    assert measured == measure_sets(predictions, inside, resamples=20)
    assert measured["measured"]["overall"]["value"] == inside[np.arange(300), predictions.labels].mean()


def test_a_class_without_images_is_left_out_of_the_measurements() -> None:
    predictions = _predictions(200)
    without = predictions.take(np.flatnonzero(predictions.labels != 0))
    measured = measure_sets(without, np.ones((len(without.labels), 3), bool), resamples=20)
    assert set(measured["measured"]) == {"overall", "some", "most"}


def test_cross_fitted_sets_reach_the_coverage_on_held_out_images() -> None:
    predictions = _predictions(1500)
    inside = cross_fitted_sets(predictions, 0.9)
    covered = inside[np.arange(1500), predictions.labels]
    by_class = [covered[predictions.labels == c].mean() for c in range(3)]
    assert by_class[1] == pytest.approx(0.9, abs=0.03)
    assert by_class[0] > 0.8
    # The frequent class is the most probable one of more images than needed.
    found = predictions.probabilities.argmax(axis=1) == 2
    assert by_class[2] >= found[predictions.labels == 2].mean() > 0.9
    # The label of a lesion with two images must not leak from one fold to another.
    twice = predictions.take(np.repeat(np.arange(1500), 2))
    both = cross_fitted_sets(twice, 0.9)
    np.testing.assert_array_equal(both[0::2], both[1::2])


@pytest.mark.parametrize("coverage", [0.0, 1.0, 90.0])
def test_a_coverage_outside_0_to_1_is_refused(coverage: float) -> None:
    with pytest.raises(DermaserveError, match="coverage"):
        fit_prediction_sets(np.ones((2, 2)) / 2, np.array([0, 1]), np.array([0, 1]), coverage)
