"""Positive and negative predictive value of the malignancy flag at a given prevalence."""

from typing import NamedTuple

from models.manifest.schema import Manifest

LOW_PREVALENCE = 0.05
"""Assumed share of malignant lesions in screening."""

PREVALENCE = "malignancy_prevalence"
"""Name of the manifest's metric that holds the share of malignant images in the test part."""


class PredictiveValues(NamedTuple):
    """Predictive values at one prevalence; all are shares from 0 to 1.

    Attributes:
        prevalence: share of all lesions that are malignant.
        positive: share of the flagged lesions that are malignant; None if no lesion is flagged.
        negative: share of the unflagged lesions that are benign; None if all lesions are flagged.
    """

    prevalence: float
    positive: float | None
    negative: float | None

    @property
    def missed(self) -> float | None:
        """Share of the unflagged lesions that are malignant: ``1 - negative``."""
        return None if self.negative is None else 1 - self.negative


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> PredictiveValues:
    """Compute predictive values by Bayes' theorem; all arguments are shares from 0 to 1.

    With sensitivity s, specificity t and prevalence p::

        positive = s·p / (s·p + (1 − t)·(1 − p))
        negative = t·(1 − p) / (t·(1 − p) + (1 − s)·p)
    """
    found, missed = sensitivity * prevalence, (1 - sensitivity) * prevalence
    cleared, alarms = specificity * (1 - prevalence), (1 - specificity) * (1 - prevalence)
    return PredictiveValues(prevalence, _share(found, alarms), _share(cleared, missed))


def predictive_values_of(manifest: Manifest) -> tuple[PredictiveValues, ...]:
    """Return the predictive values at the test part's prevalence (if given) and at ``LOW_PREVALENCE``.

    Uses sensitivity and specificity of the test part. If the manifest lacks them, it uses those of the
    operating point, which were measured on the validation part.
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
