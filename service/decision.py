"""From probabilities to a label, a set and a malignancy flag, as the bundle's manifest says."""

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
            label is always among them.
        malignancy: sum of the malignant classes' probabilities.
        flag: whether that reaches the operating point's threshold.
    """

    probabilities: dict[str, float]
    label: str
    prediction_set: tuple[str, ...]
    malignancy: float
    flag: Literal["malignant", "benign"]


def decide(manifest: Manifest, row: NDArray[np.float32]) -> Decision:
    """Apply the manifest's rule, set thresholds and operating point to ``row``, float32 ``[classes]``.

    Raises:
        InferenceFailed: ``row`` holds no probabilities. No answer is better than a made-up one.
    """
    values = row.astype(np.float64)
    # The tolerance is that of float32 sums; the division below makes the sum exact for clients.
    if not np.isfinite(values).all() or values.min() < 0 or abs(values.sum() - 1) > 1e-3:
        raise InferenceFailed("the model's output is no set of probabilities")
    values /= values.sum()
    rule = manifest.decision_rule
    prior = np.array([rule.prior[code] for code in manifest.codes])
    label = manifest.codes[int(np.argmax(values / prior**rule.tau))]
    probabilities = dict(zip(manifest.codes, values.tolist(), strict=True))
    malignancy = min(1.0, sum(probabilities[code] for code in manifest.malignant))
    reached = malignancy >= manifest.operating_point.threshold
    flag: Literal["malignant", "benign"] = "malignant" if reached else "benign"
    return Decision(probabilities, label, _prediction_set(manifest, probabilities, label), malignancy, flag)


def _prediction_set(manifest: Manifest, probabilities: dict[str, float], label: str) -> tuple[str, ...]:
    """Every class that reaches its threshold, and the label: a set is never empty."""
    thresholds = manifest.prediction_sets.thresholds
    members = [code for code, p in probabilities.items() if p >= thresholds[code] or code == label]
    return tuple(sorted(members, key=probabilities.__getitem__, reverse=True))
