"""The figures by which a model is judged, with bootstrap intervals.

All figures but those whose names end in ``_argmax`` are of the label that the API returns: the class that
the decision rule picks. ``_argmax`` means the most probable class. The accuracy is called ``accuracy_rule``,
because ``accuracy`` was that of the most probable class up to bundle 1.2.1. ECE and log loss are of the
probabilities.

Every figure is computed for many weightings of the images at once, one per row: scikit-learn gives
the same figures, but takes half a minute for the bootstrap that takes a second here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.predictive import PREVALENCE
from training.metrics.bootstrap import interval, lesion_weights, mirrored_interval

FORMER_ACCURACY_ARGMAX = "accuracy"
"""What manifests up to bundle 1.2.1 call ``accuracy_argmax``."""

_ECE_BINS = 15
_ROWS_AT_ONCE = 100  # keeps the products of weights and images within the processor's caches


@dataclass(frozen=True)
class Predictions:
    """A model's answers on one part of the data.

    Attributes:
        probabilities: float ``[N, K]``.
        decided: int ``[N]``, the decision rule's class.
        labels: int ``[N]``, the truth.
        lesions: str ``[N]``, the lesion of each image.
        codes: the K class codes.
        malignant: bool ``[K]``.
        threshold: of the malignancy probability.
    """

    probabilities: np.ndarray
    decided: np.ndarray
    labels: np.ndarray
    lesions: np.ndarray
    codes: tuple[str, ...]
    malignant: np.ndarray
    threshold: float

    def take(self, index: np.ndarray) -> "Predictions":
        """The same for the images ``index``."""
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
    """All figures.

    A class without an image has no recall, and counts in no mean over classes; one without a
    positive or a negative has no AUC. ``micro_f1`` pools the decisions of all classes; as every
    image has one label and one decision, it equals ``accuracy_rule``.
    """
    one_each = np.ones((1, len(predictions.labels)))
    return {
        name: float(values[0])
        for name, values in weighted_scores(predictions, one_each).items()
        if not np.isnan(values[0])
    }


def bootstrap(
    predictions: Predictions, *, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Each figure with its 95 % interval, as ``{"value", "low", "high"}``.

    Lesions are resampled within their class, see ``lesion_weights``. ``with_intervals`` says which kind of
    interval a figure has.
    """
    weights = lesion_weights(predictions.labels, predictions.lesions, resamples=resamples, seed=seed)
    rows = [weights[start : start + _ROWS_AT_ONCE] for start in range(0, resamples, _ROWS_AT_ONCE)]
    parts = [weighted_scores(predictions, chunk) for chunk in rows]
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return with_intervals(predictions, scores(predictions), drawn)


def with_intervals(
    predictions: Predictions, values: Mapping[str, float], drawn: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Figures with their intervals: ECE's is mirrored, a share of 0 or 1 has Wilson's over its lesions.

    Args:
        predictions: that the figures are of.
        values: the figures, by name.
        drawn: the same ``[B]`` of B resamples.
    """
    lesions = _lesion_counts(predictions)
    return {
        name: mirrored_interval(value, drawn[name])
        if name == "ece"
        else interval(value, drawn[name], lesions=lesions.get(name))
        for name, value in values.items()
    }


def weighted_scores(predictions: Predictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    """All figures ``[B]`` for each row of ``weights`` ``[B, N]``: how often each image counts.

    NaN stands where a figure is not defined.
    """
    p, labels, decided = predictions.probabilities, predictions.labels, predictions.decided
    classes = np.arange(len(predictions.codes))
    truth = labels[:, None] == classes
    total = weights.sum(axis=1)
    support = weights @ truth
    most_probable = p.argmax(axis=1)
    said = weights @ (decided[:, None] == classes)
    right = weights @ (truth & (decided == labels)[:, None])
    right_argmax = weights @ (truth & (most_probable == labels)[:, None])
    precision = _ratio(right, said, otherwise=0.0)
    recall = _ratio(right, support, otherwise=0.0)
    f1 = _ratio(2 * right, said + support, otherwise=0.0)
    present = support > 0
    log_p = np.log(p[np.arange(len(labels)), labels] + 1e-12)
    figures = {
        "balanced_accuracy": _mean_over(recall, present),
        "balanced_accuracy_argmax": _mean_over(_ratio(right_argmax, support, otherwise=0.0), present),
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
        figures[f"precision_{code}"] = precision[:, index]
        figures[f"recall_{code}"] = recall[:, index]
        figures[f"f1_{code}"] = f1[:, index]
        figures[f"auc_{code}"] = areas[:, index]
    figures["macro_auc"] = _mean_over(areas, ~np.isnan(areas))
    return figures | _malignancy(predictions, weights)


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = _ECE_BINS) -> float:
    """ECE of the most probable class over equal-width bins (Guo et al., ICML 2017, eq. 3)."""
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
    """The number of lesions that each figure from 0 to 1 rests on.

    A mean over classes rests on its rarest class, an area under the curve on the rarer of both sides.
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
    # |accuracy - confidence| of a bin times its share is the bin's sum of excesses over all images.
    of_bin = (index[:, None] == np.arange(bins)) * excess[:, None]
    return np.asarray(np.abs(weights @ of_bin).sum(axis=1) / weights.sum(axis=1))


def _auc(score: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve ``[B]``: how often a positive scores above a negative; ties count half."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))  # of each run of equal scores
    ordered = weights[:, order]
    positives = np.add.reduceat(ordered * positive[order], starts, axis=1)
    negatives = np.add.reduceat(ordered * ~positive[order], starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return _ratio((positives * below).sum(axis=1), pairs)


def _mean_over(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The mean of each row over its entries that are present."""
    return _ratio(np.where(present, values, 0.0).sum(axis=1), present.sum(axis=1))


def _ratio(share: np.ndarray, whole: np.ndarray, *, otherwise: float = np.nan) -> np.ndarray:
    """Their quotient, or ``otherwise`` where the whole is empty."""
    quotient = np.full_like(share, otherwise)
    np.divide(share, whole, out=quotient, where=whole > 0)
    return quotient
