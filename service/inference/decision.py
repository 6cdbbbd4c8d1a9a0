"""Applies the manifest's decision rule, prediction-set thresholds and operating point to probabilities."""

import math
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.bundle import Manifest
from service.errors import InferenceFailed


class Decision(NamedTuple):
    """The label, prediction set and flag of one image.

    Attributes:
        probabilities: by class code; they sum to 1.
        label: code of the class that the decision rule picks.
        prediction_set: codes of the classes that reach their thresholds, in descending order of probability.
            It always holds the label and the most probable class.
        coverage: target coverage of the prediction set.
        malignancy: sum of the probabilities of the malignant classes.
        threshold: the threshold of ``malignancy``.
        flag: ``"malignant"`` if ``malignancy`` reaches ``threshold``.
        gradcam_class: code of the class that an overlay explains by default: the label, or the most probable
            malignant class if the flag is malignant and the label is benign.
    """

    probabilities: dict[str, float]
    label: str
    prediction_set: tuple[str, ...]
    coverage: float
    malignancy: float
    threshold: float
    flag: Literal["malignant", "benign"]
    gradcam_class: str


def decide(manifest: Manifest, row: NDArray[np.float32], *, with_metadata: bool) -> Decision:
    """Decide on one image.

    Args:
        manifest: of the bundle.
        row: float32 ``[classes]``, the probabilities that the graph gave.
        with_metadata: whether the graph used metadata. The manifest has thresholds for each case.

    Raises:
        InferenceFailed: ``row`` does not hold probabilities.
    """
    values = row.tolist()
    total = sum(values)
    # The tolerance is that of float32 sums. The division below makes the sum exact for clients. A NaN or
    # an infinity makes the sum NaN or infinite.
    if not math.isfinite(total) or min(values) < 0 or abs(total - 1) > 1e-3:
        raise InferenceFailed("the model's output does not hold probabilities")
    probabilities = {code: value / total for code, value in zip(manifest.codes, values, strict=True)}
    rule = manifest.decision_rule
    label = max(manifest.codes, key=lambda code: probabilities[code] / rule.prior[code] ** rule.tau)
    malignancy = min(1.0, sum(probabilities[code] for code in manifest.malignant))
    adjusted = manifest.metadata if with_metadata else None
    threshold = (adjusted or manifest.operating_point).threshold
    reached = malignancy >= threshold
    flag: Literal["malignant", "benign"] = "malignant" if reached else "benign"
    gradcam_class = label
    if reached and label not in manifest.malignant:
        gradcam_class = max(manifest.malignant, key=probabilities.__getitem__)
    sets = (adjusted or manifest).prediction_sets
    return Decision(
        probabilities=probabilities,
        label=label,
        prediction_set=_prediction_set(sets.thresholds, probabilities, label),
        coverage=sets.coverage,
        malignancy=malignancy,
        threshold=threshold,
        flag=flag,
        gradcam_class=gradcam_class,
    )


def _prediction_set(
    thresholds: Mapping[str, float], probabilities: Mapping[str, float], label: str
) -> tuple[str, ...]:
    """Every class that reaches its threshold, plus the label and the most probable class."""
    always = {label, max(probabilities, key=probabilities.__getitem__)}
    members = [code for code, p in probabilities.items() if p >= thresholds[code] or code in always]
    return tuple(sorted(members, key=probabilities.__getitem__, reverse=True))


_ROUNDING = 1e-3  # of float32 sums in the graph


class Uncertainty(NamedTuple):
    """Uncertainty of the prediction for one image.

    Attributes:
        entropy: normalized entropy of the probabilities, 0 (one class is certain) to 1 (all are equally
            likely).
        disagreement: of the ensemble's members, 0 (all agree) to 1.
        ood_score: out-of-distribution score, on the scale of the bundle's method. Higher is less like the
            training data.
    """

    entropy: float
    disagreement: float
    ood_score: float


def measure_uncertainty(
    probabilities: Collection[float], disagreement: float, ood_score: float
) -> Uncertainty:
    """Compute the entropy and check the graph's ``disagreement`` and ``ood_score``.

    Args:
        probabilities: of all classes; they sum to 1.
        disagreement: weighted mean of the members' total variation distances from the ensemble.
        ood_score: out-of-distribution score.

    Raises:
        InferenceFailed: ``disagreement`` is not within 0..1, or ``ood_score`` is not finite.
    """
    if not math.isfinite(ood_score) or not -_ROUNDING <= disagreement <= 1 + _ROUNDING:
        raise InferenceFailed("the model's disagreement or out-of-distribution score is not valid")
    return Uncertainty(entropy(probabilities), min(1.0, max(0.0, disagreement)), ood_score)


def entropy(probabilities: Collection[float]) -> float:
    """Normalized Shannon entropy of K probabilities, ``-sum(p log p) / log K``, 0..1 (with 0 log 0 = 0)."""
    nats = -sum(p * math.log(p) for p in probabilities if p > 0)
    return min(1.0, max(0.0, nats / math.log(len(probabilities))))
