"""What a flag is worth: how many of the flagged lesions are malignant, at a given prevalence."""

from typing import NamedTuple

from models.manifest import Manifest

LOW_PREVALENCE = 0.05
"""Share of malignant lesions where most are seen to be safe, as in screening."""

PREVALENCE = "malignancy_prevalence"
"""The manifest's metric: the share of malignant images in the test part."""


class PredictiveValues(NamedTuple):
    """What a flag is worth where the share ``prevalence`` of all lesions is malignant.

    Attributes:
        positive: share of the flagged lesions that are malignant; None where none is flagged.
        negative: share of the others that are benign; None where all are flagged.
    """

    prevalence: float
    positive: float | None
    negative: float | None

    @property
    def missed(self) -> float | None:
        """Share of the lesions that are not flagged and malignant all the same; ``1 - negative``."""
        return None if self.negative is None else 1 - self.negative


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> PredictiveValues:
    """Bayes' theorem for a flag, all figures as shares of 0 to 1.

    With sensitivity s, specificity t and prevalence p, the share s·p + (1 − t)·(1 − p) of all lesions is
    flagged, and s·p is flagged and malignant::

        positive = s·p / (s·p + (1 − t)·(1 − p))
        negative = t·(1 − p) / (t·(1 − p) + (1 − s)·p)
    """
    found, missed = sensitivity * prevalence, (1 - sensitivity) * prevalence
    cleared, alarms = specificity * (1 - prevalence), (1 - specificity) * (1 - prevalence)
    return PredictiveValues(prevalence, _share(found, alarms), _share(cleared, missed))


def predictive_values_of(manifest: Manifest) -> tuple[PredictiveValues, ...]:
    """At the prevalence of the test part, where the bundle states it, and at ``LOW_PREVALENCE``.

    From the sensitivity and specificity on the test part, or, where the bundle does not state them, of
    the operating point on the validation part.
    """
    metrics, point = manifest.metrics, manifest.operating_point
    sensitivity = metrics.get("malignancy_sensitivity", point.sensitivity).value
    specificity = metrics.get("malignancy_specificity", point.specificity).value
    measured = [metrics[PREVALENCE].value] if PREVALENCE in metrics else []
    return tuple(
        predictive_values(sensitivity, specificity, prevalence) for prevalence in (*measured, LOW_PREVALENCE)
    )


def _share(right: float, wrong: float) -> float | None:
    return right / (right + wrong) if right + wrong > 0 else None
