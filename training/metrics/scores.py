"""Metrics of a model, with bootstrap intervals.

Metrics whose names end in ``_argmax`` evaluate the most probable class. All other metrics of labels evaluate
the class that the decision rule selects, which is the label that the API returns. Its accuracy is called
``accuracy_rule``, because ``accuracy`` meant that of the most probable class up to bundle 1.2.1. ECE and log
loss evaluate the probabilities.

Each metric is computed for many weightings of the images at once, one per row. scikit-learn gives the same
values, but needs half a minute for the bootstrap that takes a second here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.manifest.predictive import PREVALENCE
from training.metrics.bootstrap import interval, lesion_weights, mirrored_interval

FORMER_ACCURACY_ARGMAX = "accuracy"
"""Name of ``accuracy_argmax`` in manifests up to bundle 1.2.1."""

_ECE_BINS = 15
_CHUNK_ROWS = 100  # keeps the products of weights and images in the processor's caches


@dataclass(frozen=True)
class Predictions:
    """A model's predictions on one part of the data, for N images and K classes.

    Attributes:
        probabilities: float ``[N, K]``.
        decided: int ``[N]``, the class that the decision rule selects.
        labels: int ``[N]``, the true class.
        lesions: str ``[N]``, the lesion of each image.
        codes: the K class codes.
        malignant: bool ``[K]``.
        threshold: threshold of the malignancy probability.
    """

    probabilities: np.ndarray
    decided: np.ndarray
    labels: np.ndarray
    lesions: np.ndarray
    codes: tuple[str, ...]
    malignant: np.ndarray
    threshold: float

    def take(self, index: np.ndarray) -> "Predictions":
        """Return the predictions for the images ``index``."""
        return Predictions(
            self.probabilities[index],
            self.decided[index],
            self.labels[index],
            self.lesions[index],
            self.codes,
            self.malignant,
            self.threshold,
        )


def scores(predictions: Predictions) -> dict[str, float]:
    """Return all defined metrics by name.

    Means over classes leave out classes without images. An AUC is undefined, and absent, without positive or
    without negative images. ``micro_f1`` pools the decisions of all classes; it equals ``accuracy_rule``,
    because each image has one label and one decision.
    """
    unweighted = np.ones((1, len(predictions.labels)))
    return {
        name: float(values[0])
        for name, values in weighted_scores(predictions, unweighted).items()
        if not np.isnan(values[0])
    }


def bootstrap(
    predictions: Predictions, *, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Return each metric with its 95 % interval, as ``{"value", "low", "high"}``.

    Lesions are resampled within their class, see ``lesion_weights``. ``with_intervals`` states the kind of
    interval.
    """
    weights = lesion_weights(predictions.labels, predictions.lesions, resamples=resamples, seed=seed)
    return with_intervals(predictions, scores(predictions), weighted_scores(predictions, weights))


def with_intervals(
    predictions: Predictions, values: Mapping[str, float], resampled: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Return metrics with intervals: mirrored for ECE, Wilson's for shares of 0 or 1, else percentiles.

    Args:
        predictions: the predictions that the metrics evaluate.
        values: the metrics by name.
        resampled: ``[B]`` by name, the metrics on B resamples.
    """
    lesions = _lesion_counts(predictions)
    return {
        name: mirrored_interval(value, resampled[name])
        if name == "ece"
        else interval(value, resampled[name], lesions=lesions.get(name))
        for name, value in values.items()
    }


def weighted_scores(predictions: Predictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return all metrics for each weighting of the images.

    Args:
        predictions: the predictions of N images.
        weights: ``[B, N]``, how often each image counts.

    Returns:
        ``[B]`` by name, NaN where a metric is undefined.
    """
    chunks = [weights[start : start + _CHUNK_ROWS] for start in range(0, len(weights), _CHUNK_ROWS)]
    parts = [_weighted_scores(predictions, chunk) for chunk in chunks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _weighted_scores(predictions: Predictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    p, labels, decided = predictions.probabilities, predictions.labels, predictions.decided
    classes = np.arange(len(predictions.codes))
    truth = labels[:, None] == classes
    total = weights.sum(axis=1)
    support = weights @ truth
    most_probable = p.argmax(axis=1)
    predicted = weights @ (decided[:, None] == classes)
    correct = weights @ (truth & (decided == labels)[:, None])
    correct_argmax = weights @ (truth & (most_probable == labels)[:, None])
    precision = _ratio(correct, predicted, otherwise=0.0)
    recall = _ratio(correct, support, otherwise=0.0)
    f1 = _ratio(2 * correct, predicted + support, otherwise=0.0)
    present = support > 0
    log_p = np.log(p[np.arange(len(labels)), labels] + 1e-12)
    metrics = {
        "balanced_accuracy": _mean_over(recall, present),
        "balanced_accuracy_argmax": _mean_over(_ratio(correct_argmax, support, otherwise=0.0), present),
        "accuracy_argmax": weights @ (most_probable == labels) / total,
        "accuracy_rule": weights @ (decided == labels) / total,
        "macro_precision": _mean_over(precision, present),
        "macro_recall": _mean_over(recall, present),
        "macro_f1": _mean_over(f1, present),
        "micro_f1": weights @ (decided == labels) / total,
        "weighted_f1": (f1 * support).sum(axis=1) / total,
        "ece": _calibration_error(p, labels, weights),
        "log_loss": -(weights @ log_p) / total,
    }
    areas = np.stack([_auc(p[:, c], labels == c, weights) for c in classes], axis=1)
    for index, code in enumerate(predictions.codes):
        metrics[f"precision_{code}"] = precision[:, index]
        metrics[f"recall_{code}"] = recall[:, index]
        metrics[f"f1_{code}"] = f1[:, index]
        metrics[f"auc_{code}"] = areas[:, index]
    metrics["macro_auc"] = _mean_over(areas, ~np.isnan(areas))
    return metrics | _malignancy(predictions, weights)


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = _ECE_BINS) -> float:
    """Return the ECE of the most probable class over equal-width bins (Guo et al., ICML 2017, eq. 3).

    Args:
        probabilities: float ``[N, K]``.
        labels: int ``[N]``.
        bins: number of bins of [0, 1].
    """
    return float(_calibration_error(probabilities, labels, np.ones((1, len(labels))), bins)[0])


def _malignancy(predictions: Predictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    is_malignant = predictions.malignant[predictions.labels]
    score = predictions.probabilities[:, predictions.malignant].sum(axis=1)
    flagged = score >= predictions.threshold
    return {
        PREVALENCE: weights @ is_malignant / weights.sum(axis=1),
        "malignancy_sensitivity": _ratio(weights @ (flagged & is_malignant), weights @ is_malignant),
        "malignancy_specificity": _ratio(weights @ (~flagged & ~is_malignant), weights @ ~is_malignant),
        "malignancy_precision": _ratio(weights @ (flagged & is_malignant), weights @ flagged),
        "malignancy_auc": _auc(score, is_malignant, weights),
    }


def _lesion_counts(predictions: Predictions) -> dict[str, int]:
    """Return the number of lesions on which each share is based.

    A mean over classes counts as based on its rarest class, an AUC on the rarer of positives and negatives.
    """
    labels, decided = predictions.labels, predictions.decided

    def count(images: np.ndarray) -> int:
        return len(np.unique(predictions.lesions[images]))

    everything = count(np.ones(len(labels), bool))
    counts = dict.fromkeys(
        ("accuracy_rule", "accuracy_argmax", "micro_f1", "weighted_f1", PREVALENCE), everything
    )
    of_class = {code: count(labels == index) for index, code in enumerate(predictions.codes)}
    rarest = min(found for found in of_class.values() if found)
    means = ("balanced_accuracy", "balanced_accuracy_argmax", "macro_precision", "macro_recall", "macro_f1")
    counts |= dict.fromkeys((*means, "macro_auc"), rarest)
    for index, code in enumerate(predictions.codes):
        counts[f"recall_{code}"] = counts[f"f1_{code}"] = of_class[code]
        counts[f"precision_{code}"] = count(decided == index)
        counts[f"auc_{code}"] = min(of_class[code], count(labels != index))
    is_malignant = predictions.malignant[labels]
    flagged = predictions.probabilities[:, predictions.malignant].sum(axis=1) >= predictions.threshold
    counts["malignancy_sensitivity"], counts["malignancy_specificity"] = (
        count(is_malignant),
        count(~is_malignant),
    )
    counts["malignancy_precision"] = count(flagged)
    counts["malignancy_auc"] = min(count(is_malignant), count(~is_malignant))
    return counts


def _calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray, bins: int = _ECE_BINS
) -> np.ndarray:
    confidence = probabilities.max(axis=1)
    excess = (probabilities.argmax(axis=1) == labels) - confidence
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    # A bin's share of the images times |accuracy − confidence| is its |sum of excesses| over N.
    by_bin = (index[:, None] == np.arange(bins)) * excess[:, None]
    return np.asarray(np.abs(weights @ by_bin).sum(axis=1) / weights.sum(axis=1))


def _auc(score: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve ``[B]``: P(positive scores above negative); ties count half."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))  # first index of each distinct score
    ordered = weights[:, order]
    positives = np.add.reduceat(ordered * positive[order], starts, axis=1)
    negatives = np.add.reduceat(ordered * ~positive[order], starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return _ratio((positives * below).sum(axis=1), pairs)


def _mean_over(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return the mean of each row over the entries that are present."""
    return _ratio(np.where(present, values, 0.0).sum(axis=1), present.sum(axis=1))


def _ratio(share: np.ndarray, whole: np.ndarray, *, otherwise: float = np.nan) -> np.ndarray:
    """Return ``share / whole``, and ``otherwise`` where ``whole`` is 0."""
    quotient = np.full_like(share, otherwise)
    np.divide(share, whole, out=quotient, where=whole > 0)
    return quotient
