"""Fitted after calibration, on train and validation images only: what tells a doubtful answer from others.

Prediction sets, the out-of-distribution score, the disagreement of members, the limits of a usual
picture, and the reference for drift. ``models.safeguards`` says how a manifest holds them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.safeguards import (
    CONFIDENCE_BINS,
    Disagreement,
    DriftReference,
    PredictionSets,
    QualityLimits,
    Subgroup,
)
from models.safeguards import OutOfDistribution as OutOfDistributionFields
from training.calibration.conformal import fit_prediction_sets, measure_prediction_sets
from training.calibration.image_quality import fit_quality_limits, measure_images
from training.calibration.member_outputs import MemberOutputs
from training.calibration.out_of_distribution import METHOD, OutOfDistribution
from training.data.dataset import Row
from training.metrics.scores import Predictions
from training.metrics.subgroups import subgroups
from training.run import read_json, write_json

COVERAGE = 0.9
"""Target share of the images of each class whose prediction set holds the class."""

_NUMBERS, _OUTLIERS = "safeguards.json", "safeguards.npz"


@dataclass(frozen=True)
class Safeguards:
    """Everything fitted; see the manifest's fields of the same names.

    Attributes:
        outliers: computes the out-of-distribution score from pooled features.
        set_thresholds: by class code.
        ood_threshold, disagreement_threshold: above them an image is unusual.
        quality, drift_reference: as in the manifest.
    """

    outliers: OutOfDistribution
    set_thresholds: dict[str, float]
    ood_threshold: float
    disagreement_threshold: float
    quality: dict[str, float]
    drift_reference: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write to ``folder``."""
        part = folder / f"part-{_OUTLIERS}"
        np.savez(part, **asdict(self.outliers))
        part.replace(folder / _OUTLIERS)
        numbers = {name: value for name, value in vars(self).items() if name != "outliers"}
        write_json(folder / _NUMBERS, numbers)

    @staticmethod
    def load(folder: Path) -> "Safeguards":
        """What ``save`` wrote."""
        with np.load(folder / _OUTLIERS) as arrays:
            outliers = OutOfDistribution(**{name: arrays[name] for name in arrays.files})
        return Safeguards(outliers, **read_json(folder / _NUMBERS))


def fit_safeguards(
    validation: Predictions,
    *,
    disagreement: np.ndarray,
    known: MemberOutputs,
    outputs: MemberOutputs,
    pixels: np.ndarray,
) -> Safeguards:
    """Fit all safeguards.

    Args:
        validation: the ensemble's answers on the N validation images.
        disagreement: of its members there, ``[N]``.
        known: the members' outputs for training images.
        outputs: those for the validation images.
        pixels: training images, uint8 ``[T, H, W, C]``.
    """
    outliers = OutOfDistribution.fit(known.features, [pooled.shape[1] for pooled in known.pooled])
    thresholds = fit_prediction_sets(
        validation.probabilities, validation.labels, validation.decided, COVERAGE
    )
    return Safeguards(
        outliers=outliers,
        set_thresholds={code: float(t) for code, t in zip(validation.codes, thresholds, strict=True)},
        ood_threshold=unusual_from(outliers.score(outputs.features)),
        disagreement_threshold=min(unusual_from(disagreement), 1.0),
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
    """What ``metrics.json`` says of the safeguards, measured on the N test images ``rows``.

    Args:
        safeguards: as fitted.
        test: the ensemble's outputs.
        rows: the images.
        features: their pooled features ``[N, F]``.
        disagreement: of the members, ``[N]``.
        resamples: of the bootstrap.
    """
    thresholds = np.array([safeguards.set_thresholds[code] for code in test.codes])
    return {
        "prediction_sets": measure_prediction_sets(test, thresholds, resamples=resamples),
        "subgroups": subgroups(test, rows, resamples=resamples),
        "flagged": {
            "out_of_distribution": float(
                (safeguards.outliers.score(features) > safeguards.ood_threshold).mean()
            ),
            "members_disagree": float((disagreement > safeguards.disagreement_threshold).mean()),
        },
    }


def safeguard_fields(safeguards: Safeguards, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a manifest that safeguards fill, with what ``metrics.json`` measured of them."""
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


QUANTILE = 0.99
"""Share of the validation images whose score is usual."""

_ROUNDING = 1e-4  # what float32 sums may add where all scores are equal


def drift_reference(probabilities: np.ndarray, decided: np.ndarray, codes: Sequence[str]) -> dict[str, Any]:
    """The manifest's ``drift_reference``: how often each class is decided, and how confidently.

    Args:
        probabilities: float ``[N, K]`` on validation.
        decided: int ``[N]``, the decision rule's class.
        codes: the K class codes.

    Returns:
        ``images``: N; ``labels``: share of each decided class by code; ``confidence``: shares of the
        images by their largest probability, in equal bins of [0, 1], the last of which holds 1.
    """
    top = np.minimum((probabilities.max(axis=1) * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    counts = np.bincount(decided, minlength=len(codes))
    bins = np.bincount(top, minlength=CONFIDENCE_BINS)
    return {
        "images": len(decided),
        "labels": {code: float(n / len(decided)) for code, n in zip(codes, counts, strict=True)},
        "confidence": tuple(float(n / len(decided)) for n in bins),
    }


def unusual_from(scores: np.ndarray, quantile: float = QUANTILE) -> float:
    """The threshold above which a score is unusual: ``quantile`` of ``scores`` are at or under it.

    It lies slightly above that score, because the graph computes the score again with other rounding.
    """
    found = float(np.quantile(scores, quantile, method="higher"))
    return found + _ROUNDING * max(abs(found), 1.0)
