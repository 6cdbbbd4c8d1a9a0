"""``training.metrics.bootstrap``: the resamples and the intervals."""

import numpy as np
import pytest

from training.metrics.bootstrap import interval, lesion_weights, mean_interval

LABELS = np.array([2, 2, 2, 0, 0, 1])
LESIONS = np.array(["x", "x", "y", "a", "b", "m"])


def test_images_of_a_lesion_are_drawn_together_and_classes_keep_their_lesions() -> None:
    weights = lesion_weights(LABELS, LESIONS, resamples=200)
    assert weights.shape == (200, 6)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    np.testing.assert_array_equal(weights[:, 1] + weights[:, 2], 2)  # two lesions of class 2
    np.testing.assert_array_equal(weights[:, 3] + weights[:, 4], 2)
    np.testing.assert_array_equal(weights[:, 5], 1)
    assert set(weights[:, 0]) == {0, 1, 2}


def test_a_seed_draws_the_same_regardless_of_lesion_names() -> None:
    renamed = np.array(["1", "1", "0", "9", "8", "7"])
    first = lesion_weights(LABELS, LESIONS, resamples=20, seed=4)
    np.testing.assert_array_equal(first, lesion_weights(LABELS, renamed, resamples=20, seed=4))
    assert not np.array_equal(first, lesion_weights(LABELS, LESIONS, resamples=20, seed=5))


def test_an_interval_leaves_out_resamples_where_the_metric_is_undefined() -> None:
    drawn = np.append(np.linspace(0, 1, 101), np.nan)
    assert interval(0.5, drawn) == pytest.approx({"value": 0.5, "low": 0.025, "high": 0.975})


def test_the_interval_of_a_mean_contains_it_and_matches_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(3, 1, 400)
    weights = lesion_weights(np.zeros(400, int), np.arange(400).astype(str), resamples=1000)
    found = mean_interval(values, weights)
    assert found["value"] == pytest.approx(values.mean())
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 / 20, rel=0.1)
