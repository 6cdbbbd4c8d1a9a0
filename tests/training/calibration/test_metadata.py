"""Adjustment by age, sex and site: Bayes' theorem with full weight, no change for unknown values."""

from pathlib import Path

import numpy as np
import pytest

from training.calibration.metadata import (
    AGES,
    WEIGHTS,
    apply_factors,
    count_factors,
    encode,
    fit_metadata,
)
from training.data.dataset import Row


def lesion(number: int, *, age: float | None = None, sex: str = "unknown", site: str = "unknown") -> Row:
    return Row(f"image_{number}", f"lesion_{number}", "nv", "histo", age, sex, site, Path())


def test_a_row_of_unknown_values_changes_no_bit() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), size=4)
    rows = encode([lesion(n) for n in range(4)])
    assert not rows.any()
    found = apply_factors(probabilities, rows, np.random.default_rng(1).normal(size=(rows.shape[1], 3)))
    assert (found == probabilities).all()


def test_ages_fall_into_their_decades() -> None:
    rows = encode([lesion(0, age=5), lesion(1, age=10), lesion(2, age=79.5), lesion(3, age=85)])
    assert rows[:, : len(AGES)].argmax(axis=1).tolist() == [0, 1, 7, 8]
    assert (rows.sum(axis=1) == 1).all()


def test_full_weight_gives_the_posterior_of_bayes_theorem() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 60_000)
    male = rng.random(len(labels)) < np.where(labels == 1, 0.8, 0.3)
    rows = [lesion(n, sex="male" if m else "female") for n, m in enumerate(male)]
    log_factors = count_factors(rows, labels, 2)
    prior = np.bincount(labels) / len(labels)
    found = apply_factors(np.array([prior]), encode([lesion(0, sex="male")]), log_factors)
    assert found[0, 1] == pytest.approx((labels[male] == 1).mean(), abs=1e-3)


def test_many_images_of_one_lesion_count_once() -> None:
    rows = [lesion(n, sex="female") for n in range(10)]
    again = [*rows, *([rows[0]] * 50)]
    labels = np.arange(10) % 2
    repeated = np.concatenate([labels, np.zeros(50, int)])
    assert (count_factors(rows, labels, 2) == count_factors(again, repeated, 2)).all()


def test_a_value_without_training_lesions_changes_nothing() -> None:
    log_factors = count_factors([lesion(n, age=50) for n in range(10)], np.arange(10) % 2, 2)
    assert np.isfinite(log_factors).all()
    assert not log_factors[0].any()


def test_a_class_without_lesions_of_a_value_keeps_a_factor_above_zero() -> None:
    rows = [lesion(n, sex="male" if n < 500 else "female") for n in range(1000)]
    labels = np.array([0] * 500 + [1] * 500)
    factors = np.exp(count_factors(rows, labels, 2))
    assert factors.min() > 0


def test_the_weight_is_zero_for_misleading_and_high_for_informative_metadata() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 2000)
    rows = [lesion(n, sex="male" if label else "female") for n, label in enumerate(labels)]
    log_factors = count_factors(rows, labels, 2)
    unsure = np.full((len(rows), 2), 0.5)
    assert fit_metadata(log_factors, unsure, encode(rows), labels).weight == WEIGHTS[-1]
    assert fit_metadata(-log_factors, unsure, encode(rows), labels).weight == 0
