"""Fits and measures the safeguards: what warns of unreliable predictions.

These are the prediction sets, the out-of-distribution score, the members' disagreement, the limits of image
quality, and the drift reference. They are fitted after the calibration, on training and validation images
only. ``models.manifest.safeguards`` defines their fields in the manifest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.manifest.safeguards import (
    CONFIDENCE_BINS,
    Disagreement,
    DriftReference,
    PredictionSets,
    QualityLimits,
    Subgroup,
)
from models.manifest.safeguards import OutOfDistribution as OutOfDistributionFields
from training.calibration.conformal import fit_prediction_sets, measure_prediction_sets
from training.calibration.image_quality import fit_quality_limits, measure_images
from training.calibration.member_outputs import MemberOutputs
from training.calibration.out_of_distribution import METHOD, OutOfDistribution
from training.data.dataset import Row
from training.metrics.scores import Predictions
from training.metrics.subgroups import subgroups
from training.run import read_json, write_json

COVERAGE = 0.9
"""Target share of the images of each class whose prediction set contains the class."""

QUANTILE = 0.99
"""Share of the validation images at or below a threshold for warnings."""

_ROUNDING_MARGIN = 1e-4

_JSON_NAME, _ARRAYS_NAME = "safeguards.json", "safeguards.npz"


@dataclass(frozen=True)
class Safeguards:
    """The fitted safeguards.

    Attributes:
        out_of_distribution: computes the out-of-distribution score from pooled features.
        set_thresholds: thresholds of the prediction sets, by class code.
        ood_threshold: an image with a higher score is out of distribution.
        disagreement_threshold: the members disagree on an image with a higher disagreement.
        quality, drift_reference: the manifest's fields of these names.
    """

    out_of_distribution: OutOfDistribution
    set_thresholds: dict[str, float]
    ood_threshold: float
    disagreement_threshold: float
    quality: dict[str, float]
    drift_reference: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write ``safeguards.json`` and ``safeguards.npz`` to ``folder``."""
        part = folder / f"part-{_ARRAYS_NAME}"
        np.savez(part, **asdict(self.out_of_distribution))
        part.replace(folder / _ARRAYS_NAME)
        rest = {name: value for name, value in vars(self).items() if name != "out_of_distribution"}
        write_json(folder / _JSON_NAME, rest)

    @staticmethod
    def load(folder: Path) -> "Safeguards":
        """Read the files that ``save`` wrote."""
        with np.load(folder / _ARRAYS_NAME) as arrays:
            score = OutOfDistribution(**{name: arrays[name] for name in arrays.files})
        return Safeguards(score, **read_json(folder / _JSON_NAME))


def fit_safeguards(
    validation: Predictions,
    *,
    disagreement: np.ndarray,
    training_outputs: MemberOutputs,
    validation_outputs: MemberOutputs,
    pixels: np.ndarray,
) -> Safeguards:
    """Fit all safeguards.

    Args:
        validation: the ensemble's predictions on the N validation images.
        disagreement: ``[N]``, the members' disagreement on the validation images.
        training_outputs: the members' outputs for training images.
        validation_outputs: the members' outputs for the validation images.
        pixels: training images, uint8 ``[T, H, W, C]``.
    """
    widths = [pooled.shape[1] for pooled in training_outputs.pooled]
    score = OutOfDistribution.fit(training_outputs.features, widths)
    thresholds = fit_prediction_sets(
        validation.probabilities, validation.labels, validation.decided, COVERAGE
    )
    return Safeguards(
        out_of_distribution=score,
        set_thresholds={code: float(t) for code, t in zip(validation.codes, thresholds, strict=True)},
        ood_threshold=upper_threshold(score.score(validation_outputs.features)),
        disagreement_threshold=min(upper_threshold(disagreement), 1.0),
        quality=fit_quality_limits(measure_images(pixels)),
        drift_reference=drift_reference(validation.probabilities, validation.decided, validation.codes),
    )


def measure_safeguards(
    safeguards: Safeguards,
    test: Predictions,
    rows: Sequence[Row],
    *,
    features: np.ndarray,
    disagreement: np.ndarray,
    resamples: int,
) -> dict[str, Any]:
    """Measure the safeguards on the N test images, as ``metrics.json`` holds it.

    Args:
        safeguards: the fitted safeguards.
        test: the ensemble's predictions.
        rows: the test images.
        features: ``[N, F]``, their pooled features.
        disagreement: ``[N]``, the members' disagreement.
        resamples: number of bootstrap resamples.
    """
    ood_scores = safeguards.out_of_distribution.score(features)
    thresholds = np.array([safeguards.set_thresholds[code] for code in test.codes])
    return {
        "prediction_sets": measure_prediction_sets(test, thresholds, resamples=resamples),
        "subgroups": subgroups(test, rows, resamples=resamples),
        "flagged": {
            "out_of_distribution": float((ood_scores > safeguards.ood_threshold).mean()),
            "members_disagree": float((disagreement > safeguards.disagreement_threshold).mean()),
        },
    }


def safeguard_fields(safeguards: Safeguards, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest's fields about safeguards; ``metrics`` is the content of ``metrics.json``."""
    sets = metrics["prediction_sets"]
    return {
        "prediction_sets": PredictionSets(
            coverage=COVERAGE,
            thresholds=safeguards.set_thresholds,
            measured=sets["measured"],
            mean_size=sets["size"]["overall"],
        ),
        "out_of_distribution": OutOfDistributionFields(
            method=METHOD, threshold=safeguards.ood_threshold, quantile=QUANTILE
        ),
        "disagreement": Disagreement(threshold=safeguards.disagreement_threshold, quantile=QUANTILE),
        "quality": QualityLimits(**safeguards.quality),
        "drift_reference": DriftReference(**safeguards.drift_reference),
        "subgroups": tuple(Subgroup(**group) for group in metrics["subgroups"]),
    }


def drift_reference(probabilities: np.ndarray, decided: np.ndarray, codes: Sequence[str]) -> dict[str, Any]:
    """Return the manifest's ``drift_reference``.

    Args:
        probabilities: float ``[N, K]`` on the validation part.
        decided: int ``[N]``, the class that the decision rule selects.
        codes: the K class codes.

    Returns:
        ``images``: N; ``labels``: share of each selected class by code; ``confidence``: shares of the
        images by their largest probability, in equal bins of [0, 1], the last of which includes 1.
    """
    top = np.minimum((probabilities.max(axis=1) * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    counts = np.bincount(decided, minlength=len(codes))
    bins = np.bincount(top, minlength=CONFIDENCE_BINS)
    return {
        "images": len(decided),
        "labels": {code: float(n / len(decided)) for code, n in zip(codes, counts, strict=True)},
        "confidence": tuple(float(n / len(decided)) for n in bins),
    }


def upper_threshold(scores: np.ndarray, quantile: float = QUANTILE) -> float:
    """Return the threshold at or below which the share ``quantile`` of ``scores`` lies.

    It is slightly above that quantile, because the exported graph rounds differently.
    """
    found = float(np.quantile(scores, quantile, method="higher"))
    return found + _ROUNDING_MARGIN * max(abs(found), 1.0)
