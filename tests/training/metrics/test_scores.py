from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

from training.metrics.bootstrap import lesion_weights
from training.metrics.scores import (
    Predictions,
    bootstrap,
    expected_calibration_error,
    scores,
    weighted_scores,
)


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


def test_metrics_of_a_table_computed_by_hand() -> None:
    # Truth a a a b b c, said a a b b c c.
    said, labels = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 1, 2])
    predictions = Predictions(
        np.eye(3)[said], said, labels, np.array(list("uvwxyz")), ("a", "b", "c"),
        np.array([True, False, False]), 0.5,
    )  # fmt: skip
    metrics = scores(predictions)
    assert metrics["accuracy_rule"] == pytest.approx(4 / 6)
    assert metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert metrics["precision_b"] == pytest.approx(1 / 2)
    assert metrics["f1_a"] == pytest.approx(0.8)
    assert metrics["malignancy_sensitivity"] == pytest.approx(2 / 3)
    assert metrics["malignancy_specificity"] == pytest.approx(1.0)
    assert metrics["malignancy_auc"] == pytest.approx(2 / 3 * 1 + 1 / 3 * 0.5)


def _by_scikit_learn(predictions: Predictions) -> dict[str, float]:
    p, labels, decided = predictions.probabilities, predictions.labels, predictions.decided
    classes = np.arange(len(predictions.codes))
    table = precision_recall_fscore_support(labels, decided, labels=classes, zero_division=0.0)
    metrics = {
        "accuracy_argmax": accuracy_score(labels, p.argmax(axis=1)),
        "accuracy_rule": accuracy_score(labels, decided),
        "balanced_accuracy": balanced_accuracy_score(labels, decided),
        "balanced_accuracy_argmax": balanced_accuracy_score(labels, p.argmax(axis=1)),
        "macro_f1": f1_score(labels, decided, average="macro", labels=classes),
        "micro_f1": f1_score(labels, decided, average="micro", labels=classes),
        "weighted_f1": f1_score(labels, decided, average="weighted", labels=classes),
        "log_loss": log_loss(labels, p, labels=classes),
        "macro_auc": np.mean([roc_auc_score(labels == c, p[:, c]) for c in classes]),
        "malignancy_auc": roc_auc_score(
            predictions.malignant[labels], p[:, predictions.malignant].sum(axis=1)
        ),
    }
    for index, code in enumerate(predictions.codes):
        names = (f"{kind}_{code}" for kind in ("precision", "recall", "f1"))
        metrics |= dict(zip(names, (column[index] for column in table[:3]), strict=True))
        metrics[f"auc_{code}"] = roc_auc_score(labels == index, p[:, index])
    return {name: float(value) for name, value in metrics.items()}


def _with_ties(predictions: Predictions) -> Predictions:
    rounded = np.round(predictions.probabilities, 1) + 0.01
    return replace(predictions, probabilities=rounded / rounded.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("ties", [False, True], ids=["distinct scores", "tied scores"])
def test_every_metric_equals_that_of_scikit_learn(ties: bool) -> None:
    predictions = _with_ties(_predictions()) if ties else _predictions()
    metrics = scores(predictions)
    for name, value in _by_scikit_learn(predictions).items():
        assert metrics[name] == pytest.approx(value, abs=1e-9), name


def test_weighting_an_image_equals_repeating_it() -> None:
    predictions = _with_ties(_predictions(120))
    weights = lesion_weights(predictions.labels, predictions.lesions, resamples=5, seed=1)
    metrics = weighted_scores(predictions, weights)
    for row, counts in enumerate(weights.astype(int)):
        drawn = scores(predictions.take(np.repeat(np.arange(120), counts)))
        for name, value in drawn.items():
            assert metrics[name][row] == pytest.approx(value, abs=1e-9), name


def test_metrics_of_absent_classes_are_undefined_and_of_unpredicted_classes_zero() -> None:
    absent = _predictions(60)
    absent = absent.take(np.flatnonzero(absent.labels != 0))
    metrics = scores(replace(absent, decided=np.ones(len(absent.labels), int)))
    assert not {"auc_a", "malignancy_sensitivity", "malignancy_auc"} & set(metrics)
    assert metrics["precision_c"] == metrics["recall_c"] == metrics["f1_c"] == 0.0
    assert metrics["macro_recall"] == metrics["balanced_accuracy"] == pytest.approx(0.5)


def test_two_classes_are_scored_as_well() -> None:
    rng = np.random.default_rng(0)
    p, labels = rng.dirichlet((1, 1), 40), np.arange(40) % 2
    two = Predictions(
        p, p.argmax(axis=1), labels, np.arange(40).astype(str), ("benign", "malignant"),
        np.array([False, True]), 0.5,
    )  # fmt: skip
    metrics = bootstrap(two, resamples=50)
    assert metrics["malignancy_auc"] == metrics["auc_malignant"]
    assert metrics["macro_auc"]["value"] == pytest.approx(roc_auc_score(labels, p[:, 1]))


def test_metrics_of_the_rule_and_of_the_most_probable_class_are_separate() -> None:
    predictions = _predictions()
    always_b = Predictions(
        predictions.probabilities, np.ones(300, int), predictions.labels, predictions.lesions,
        predictions.codes, predictions.malignant, predictions.threshold,
    )  # fmt: skip
    metrics = scores(always_b)
    assert metrics["balanced_accuracy"] == pytest.approx(1 / 3)
    assert metrics["accuracy_rule"] == pytest.approx((predictions.labels == 1).mean())
    assert metrics["accuracy_argmax"] == pytest.approx(scores(predictions)["accuracy_argmax"])
    assert "accuracy" not in metrics  # which of the two it is must be said


def test_ece_is_zero_for_calibrated_and_large_for_overconfident_probabilities() -> None:
    labels = np.array([0] * 80 + [1] * 20)
    assert expected_calibration_error(np.tile([0.8, 0.2], (100, 1)), labels) == pytest.approx(0.0)
    assert expected_calibration_error(np.tile([1.0, 0.0], (100, 1)), labels) == pytest.approx(0.2)


def test_an_interval_contains_its_value_and_narrows_with_more_lesions() -> None:
    few, many = bootstrap(_predictions(120), resamples=200), bootstrap(_predictions(1200), resamples=200)
    for metrics in (few, many):
        interval = metrics["accuracy_rule"]
        assert interval["low"] <= interval["value"] <= interval["high"]
    assert (
        many["accuracy_rule"]["high"] - many["accuracy_rule"]["low"]
        < few["accuracy_rule"]["high"] - few["accuracy_rule"]["low"]
    )


def test_lesions_are_resampled_whole() -> None:
    """Ten images of every lesion give an interval as wide as one image of every lesion."""
    once = _predictions(100)
    tenfold = once.take(np.repeat(np.arange(100), 10))
    alone = once.take(np.arange(100))
    wide = bootstrap(tenfold, resamples=300)["accuracy_rule"]
    reference = bootstrap(alone, resamples=300)["accuracy_rule"]
    assert wide["high"] - wide["low"] == pytest.approx(reference["high"] - reference["low"], rel=0.25)


def test_a_share_of_one_has_wilsons_interval_over_lesions() -> None:
    predictions = _predictions(200)
    perfect = replace(predictions, decided=predictions.labels)
    metrics = bootstrap(perfect, resamples=50)
    lesions = len(np.unique(predictions.lesions[predictions.labels == 0]))
    expected = lesions / (lesions + 1.959964**2)  # Wilson's lower bound of n successes in n trials
    for name in ("recall_a", "f1_a", "precision_a"):
        assert metrics[name]["value"] == metrics[name]["high"] == 1.0
        assert metrics[name]["low"] == pytest.approx(expected, rel=1e-4)
    assert metrics["accuracy_rule"]["low"] > metrics["balanced_accuracy"]["low"] > 0.5
    never = bootstrap(replace(predictions, decided=np.ones(200, int)), resamples=50)
    assert never["recall_a"]["low"] == 0.0
    assert never["recall_a"]["high"] == pytest.approx(1 - expected, rel=1e-4)


def test_ten_images_of_a_lesion_do_not_narrow_wilsons_interval() -> None:
    once = _predictions(60)
    once = replace(once, decided=once.labels, lesions=np.arange(60).astype(str))
    tenfold = once.take(np.repeat(np.arange(60), 10))
    for name in ("recall_a", "malignancy_specificity", "accuracy_rule"):
        assert bootstrap(tenfold, resamples=20)[name]["low"] == bootstrap(once, resamples=20)[name]["low"]


def test_the_interval_of_ece_contains_the_true_value() -> None:
    """Confidence exceeds accuracy by 0.05 everywhere; percentile intervals would lie around 0.06."""
    rng = np.random.default_rng(1)
    middles, held = [], 0
    for _ in range(60):
        confidence = rng.uniform(0.55, 1.0, 600)
        labels = rng.integers(0, 4, 600)
        right = rng.random(600) < confidence - 0.05
        said = np.where(right, labels, (labels + rng.integers(1, 4, 600)) % 4)
        p = np.repeat((1 - confidence)[:, None] / 3, 4, axis=1)
        p[np.arange(600), said] = confidence
        predictions = Predictions(
            p, said, labels, np.arange(600).astype(str), tuple("abcd"), np.eye(4)[0].astype(bool), 0.5
        )
        found = bootstrap(predictions, resamples=100)["ece"]
        middles.append((found["low"] + found["high"]) / 2)
        held += found["low"] <= 0.05 <= found["high"]
    assert np.mean(middles) == pytest.approx(0.05, abs=0.006)
    assert held >= 48


def test_precision_of_the_flag_is_the_share_of_flagged_that_are_malignant() -> None:
    predictions = _predictions()
    flagged = predictions.probabilities[:, 0] >= predictions.threshold
    assert scores(predictions)["malignancy_precision"] == pytest.approx(
        (predictions.labels[flagged] == 0).mean()
    )
