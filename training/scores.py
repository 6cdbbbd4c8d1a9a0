"""The figures by which a model is judged, with bootstrap intervals.

Which label a figure is about is part of its name: ``accuracy`` counts the most probable class
(arg-max), figures ending in ``_rule`` and all per-class ones the class that the decision rule
picks, which is what the service answers.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support, roc_auc_score


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
    """All figures. A class without a positive or a negative has no AUC and is left out."""
    p, labels, decided = predictions.probabilities, predictions.labels, predictions.decided
    most_probable = p.argmax(axis=1)
    classes = np.arange(len(predictions.codes))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, decided, labels=classes, zero_division=0.0
    )
    present = support > 0
    figures = {
        "balanced_accuracy": float(recall[present].mean()),
        "balanced_accuracy_argmax": float(balanced_accuracy_score(labels, most_probable)),
        "accuracy": float((most_probable == labels).mean()),
        "accuracy_rule": float((decided == labels).mean()),
        "macro_precision": float(precision[present].mean()),
        "macro_recall": float(recall[present].mean()),
        "macro_f1": float(f1[present].mean()),
        "weighted_f1": float(np.average(f1, weights=support)),
        "ece": expected_calibration_error(p, labels),
        "log_loss": float(-np.log(p[np.arange(len(labels)), labels] + 1e-12).mean()),
    }
    areas = []
    for index, code in enumerate(predictions.codes):
        figures[f"precision_{code}"] = float(precision[index])
        figures[f"recall_{code}"] = float(recall[index])
        figures[f"f1_{code}"] = float(f1[index])
        if 0 < support[index] < len(labels):
            areas.append(float(roc_auc_score(labels == index, p[:, index])))
            figures[f"auc_{code}"] = areas[-1]
    if areas:
        figures["macro_auc"] = float(np.mean(areas))
    sick = predictions.malignant[labels]
    score = p[:, predictions.malignant].sum(axis=1)
    flagged = score >= predictions.threshold
    if sick.any():
        figures["malignancy_sensitivity"] = float(flagged[sick].mean())
    if not sick.all():
        figures["malignancy_specificity"] = float((~flagged[~sick]).mean())
    if sick.any() and not sick.all():
        figures["malignancy_auc"] = float(roc_auc_score(sick, score))
    return figures


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """ECE of the most probable class over equal-width bins (Guo et al., ICML 2017, eq. 3)."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(correct[index == b].mean() - confidence[index == b].mean()) * (index == b).mean()
        for b in np.unique(index)
    ]
    return float(np.sum(gaps))


def bootstrap(
    predictions: Predictions, *, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Each figure with its 95 % percentile interval, as ``{"value", "low", "high"}``.

    Lesions, not images, are resampled: images of one lesion are not independent. They are
    resampled within their class, so that a resample never lacks a rare class.
    """
    rng = np.random.default_rng(seed)
    images_of: dict[str, list[int]] = {}
    for index, lesion in enumerate(predictions.lesions):
        images_of.setdefault(str(lesion), []).append(index)
    by_class: dict[int, list[np.ndarray]] = {}
    for images in images_of.values():
        by_class.setdefault(int(predictions.labels[images[0]]), []).append(np.array(images))
    drawn: dict[str, list[float]] = {}
    for _ in range(resamples):
        chosen = [
            groups[i] for groups in by_class.values() for i in rng.integers(0, len(groups), len(groups))
        ]
        for name, value in scores(predictions.take(np.concatenate(chosen))).items():
            drawn.setdefault(name, []).append(value)
    return {
        name: {
            "value": value,
            "low": float(np.percentile(drawn[name], 2.5)),
            "high": float(np.percentile(drawn[name], 97.5)),
        }
        for name, value in scores(predictions).items()
    }
