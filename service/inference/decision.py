"""From probabilities to a label, a set and a malignancy flag, as the bundle's manifest says."""

import math
from collections.abc import Collection
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.bundle import Manifest
from service.errors import InferenceFailed


class Decision(NamedTuple):
    """What is said of one image.

    Attributes:
        probabilities: by class code, summing to 1.
        label: code of the class that the decision rule picks.
        prediction_set: codes of the classes that reach their thresholds, by falling probability; the
            label and the most probable class are always among them.
        malignancy: sum of the malignant classes' probabilities.
        flag: whether that reaches the operating point's threshold.
        explained: code of the class whose evidence an overlay shows by default: the label, or, where the
            flag is raised and the label is benign, the most probable malignant class.
    """

    probabilities: dict[str, float]
    label: str
    prediction_set: tuple[str, ...]
    malignancy: float
    flag: Literal["malignant", "benign"]
    explained: str


def decide(manifest: Manifest, row: NDArray[np.float32]) -> Decision:
    """Apply the manifest's rule, set thresholds and operating point to ``row``, float32 ``[classes]``.

    Raises:
        InferenceFailed: ``row`` holds no probabilities. No answer is better than a made-up one.
    """
    values = row.tolist()
    total = sum(values)
    # The tolerance is that of float32 sums; the division below makes the sum exact for clients. A NaN or
    # an infinity among the values is one of their sum, too.
    if not math.isfinite(total) or min(values) < 0 or abs(total - 1) > 1e-3:
        raise InferenceFailed("the model's output is no set of probabilities")
    probabilities = {code: value / total for code, value in zip(manifest.codes, values, strict=True)}
    rule = manifest.decision_rule
    label = max(manifest.codes, key=lambda code: probabilities[code] / rule.prior[code] ** rule.tau)
    malignancy = min(1.0, sum(probabilities[code] for code in manifest.malignant))
    reached = malignancy >= manifest.operating_point.threshold
    flag: Literal["malignant", "benign"] = "malignant" if reached else "benign"
    explained = label
    if reached and label not in manifest.malignant:
        explained = max(manifest.malignant, key=probabilities.__getitem__)
    members = _prediction_set(manifest, probabilities, label)
    return Decision(probabilities, label, members, malignancy, flag, explained)


def _prediction_set(manifest: Manifest, probabilities: dict[str, float], label: str) -> tuple[str, ...]:
    """Every class that reaches its threshold, the label, and the most probable class."""
    thresholds = manifest.prediction_sets.thresholds
    always = {label, max(probabilities, key=probabilities.__getitem__)}
    members = [code for code, p in probabilities.items() if p >= thresholds[code] or code in always]
    return tuple(sorted(members, key=probabilities.__getitem__, reverse=True))


_ROUNDING = 1e-3  # of float32 sums in the graph


class Uncertainty(NamedTuple):
    """How sure one answer is.

    Attributes:
        entropy: of the probabilities, 0 (one class is certain) to 1 (all are equally likely).
        disagreement: of the ensemble's members, 0 (all say the same) to 1.
        ood_score: how unlike the training data the image is, on the scale of the bundle's method.
    """

    entropy: float
    disagreement: float
    ood_score: float


def judge(probabilities: Collection[float], disagreement: float, ood_score: float) -> Uncertainty:
    """Take the graph's ``disagreement`` and ``ood_score``, and measure the entropy.

    Args:
        probabilities: of every class, summing to 1.
        disagreement: weighted mean of the members' total variation distances from the ensemble.
        ood_score: higher is stranger.

    Raises:
        InferenceFailed: a figure is none that a graph may give.
    """
    if not math.isfinite(ood_score) or not -_ROUNDING <= disagreement <= 1 + _ROUNDING:
        raise InferenceFailed("the model's output holds no usable uncertainty")
    return Uncertainty(entropy(probabilities), min(1.0, max(0.0, disagreement)), ood_score)


def entropy(probabilities: Collection[float]) -> float:
    """Shannon entropy over its maximum, ``-sum(p log p) / log K``, 0..1 (Shannon, 1948; 0 log 0 = 0)."""
    nats = -sum(p * math.log(p) for p in probabilities if p > 0)
    return min(1.0, max(0.0, nats / math.log(len(probabilities))))
