import numpy as np
import pytest

from training.scores import Predictions, bootstrap, expected_calibration_error, scores


def _predictions(count: int = 300, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=[0.2, 0.3, 0.5])
    probabilities = rng.dirichlet((1, 1, 1), count) * 0.5 + 0.5 * np.eye(3)[labels]
    probabilities[: count // 4] = probabilities[: count // 4, ::-1]  # some are plainly wrong
    return Predictions(
        probabilities,
        probabilities.argmax(axis=1),
        labels,
        np.array([f"{label}-{i // 2}" for i, label in enumerate(labels)]),
        ("a", "b", "c"),
        np.array([True, False, False]),
        0.4,
    )


def test_figures_of_a_table_worked_by_hand() -> None:
    # Truth a a a b b c, said a a b b c c.
    said, labels = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 1, 2])
    predictions = Predictions(
        np.eye(3)[said], said, labels, np.array(list("uvwxyz")), ("a", "b", "c"),
        np.array([True, False, False]), 0.5,
    )  # fmt: skip
    figures = scores(predictions)
    assert figures["accuracy"] == pytest.approx(4 / 6)
    assert figures["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert figures["precision_b"] == pytest.approx(1 / 2)
    assert figures["f1_a"] == pytest.approx(0.8)
    assert figures["malignancy_sensitivity"] == pytest.approx(2 / 3)
    assert figures["malignancy_specificity"] == pytest.approx(1.0)
    assert figures["malignancy_auc"] == pytest.approx(2 / 3 * 1 + 1 / 3 * 0.5)


def test_the_rule_and_the_most_probable_class_are_kept_apart() -> None:
    predictions = _predictions()
    always_b = Predictions(
        predictions.probabilities, np.ones(300, int), predictions.labels, predictions.lesions,
        predictions.codes, predictions.malignant, predictions.threshold,
    )  # fmt: skip
    figures = scores(always_b)
    assert figures["balanced_accuracy"] == pytest.approx(1 / 3)
    assert figures["accuracy"] == pytest.approx(scores(predictions)["accuracy"])


def test_ece_is_zero_for_honest_and_large_for_boastful_probabilities() -> None:
    labels = np.array([0] * 80 + [1] * 20)
    assert expected_calibration_error(np.tile([0.8, 0.2], (100, 1)), labels) == pytest.approx(0.0)
    assert expected_calibration_error(np.tile([1.0, 0.0], (100, 1)), labels) == pytest.approx(0.2)


def test_an_interval_holds_its_value_and_narrows_with_more_lesions() -> None:
    few, many = bootstrap(_predictions(120), resamples=200), bootstrap(_predictions(1200), resamples=200)
    for figures in (few, many):
        interval = figures["accuracy"]
        assert interval["low"] <= interval["value"] <= interval["high"]
    assert (
        many["accuracy"]["high"] - many["accuracy"]["low"] < few["accuracy"]["high"] - few["accuracy"]["low"]
    )


def test_lesions_are_resampled_whole() -> None:
    """With every lesion photographed ten times the interval must be as wide as with one photograph."""
    once = _predictions(100)
    tenfold = once.take(np.repeat(np.arange(100), 10))
    alone = once.take(np.arange(100))
    wide = bootstrap(tenfold, resamples=300)["accuracy"]
    reference = bootstrap(alone, resamples=300)["accuracy"]
    assert wide["high"] - wide["low"] == pytest.approx(reference["high"] - reference["low"], rel=0.25)
