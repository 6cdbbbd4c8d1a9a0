"""Fits and measures the adjustment by age, sex and body site, with its own threshold and prediction sets.

Everything is fitted and measured on the images of which at least one value is known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.manifest.metadata import Comparison, MetadataInput
from models.manifest.safeguards import PredictionSets
from training.calibration.conformal import fit_prediction_sets, measure_prediction_sets
from training.calibration.fit import decide, fit_threshold
from training.calibration.metadata import (
    AGES,
    MetadataFactors,
    apply_factors,
    count_factors,
    encode,
    fit_metadata,
)
from training.calibration.safeguards import COVERAGE
from training.data.dataset import Row
from training.metrics.scores import Predictions, bootstrap
from training.metrics.subgroups import MIN_IMAGES
from training.run import read_json, write_json

_FILE = "metadata.json"

UNDER_40_METRICS = (
    "balanced_accuracy",
    "accuracy_rule",
    "malignancy_sensitivity",
    "malignancy_specificity",
    "malignancy_auc",
    "macro_auc",
    "ece",
)
"""The metrics of patients under 40. The mean over classes leaves out classes without images."""


@dataclass(frozen=True)
class Rule:
    """The decision rule: the largest p / prior ** tau, with ``prior`` ``[K]``."""

    prior: np.ndarray
    tau: float


@dataclass(frozen=True)
class FittedMetadata:
    """The adjustment, and what is fitted to the adjusted probabilities.

    Attributes:
        factors: the log factors and their weight.
        threshold: malignancy threshold.
        set_thresholds: ``[K]``, thresholds of the prediction sets.
    """

    factors: MetadataFactors
    threshold: float
    set_thresholds: np.ndarray

    def save(self, folder: Path) -> None:
        """Write ``metadata.json`` to ``folder``."""
        fitted = {
            "log_factors": self.factors.log_factors.tolist(),
            "weight": self.factors.weight,
            "threshold": self.threshold,
            "set_thresholds": self.set_thresholds.tolist(),
        }
        write_json(folder / _FILE, fitted)

    @staticmethod
    def load(folder: Path) -> "FittedMetadata | None":
        """Read the file that ``save`` wrote. Return None if there is none."""
        if not (folder / _FILE).is_file():
            return None
        found = read_json(folder / _FILE)
        factors = MetadataFactors(np.array(found["log_factors"]), found["weight"])
        return FittedMetadata(factors, found["threshold"], np.array(found["set_thresholds"]))


def fit(
    training: Sequence[Row],
    training_labels: np.ndarray,
    validation: Predictions,
    validation_rows: Sequence[Row],
    *,
    rule: Rule,
    target_sensitivity: float,
) -> FittedMetadata | None:
    """Count the factors on the training part, and fit everything else on the validation part.

    Args:
        training: the training images.
        training_labels: int ``[N]``, their classes.
        validation: predictions on the validation part from the images alone.
        validation_rows: its images, in the same order.
        rule: the decision rule.
        target_sensitivity: share of malignant images that the threshold must flag.

    Returns:
        None if age, sex or site does not vary in the training part, or if metadata does not improve the log
        loss.
    """
    log_factors = count_factors(training, training_labels, len(validation.codes))
    known = encode(validation_rows)
    factors = fit_metadata(log_factors, validation.probabilities, known, validation.labels)
    image_only, rows = with_known(validation, validation_rows)
    has_ages = log_factors[: len(AGES)].any()
    malignant = image_only.malignant[image_only.labels]
    if not (factors.weight and has_ages and factors.sexes and factors.sites and malignant.any()):
        return None
    p = factors.apply(image_only.probabilities, encode(rows))
    return FittedMetadata(
        factors=factors,
        threshold=fit_threshold(p[:, image_only.malignant].sum(axis=1), malignant, target_sensitivity),
        set_thresholds=fit_prediction_sets(p, image_only.labels, decide(p, rule.prior, rule.tau), COVERAGE),
    )


def with_known(predictions: Predictions, rows: Sequence[Row]) -> tuple[Predictions, list[Row]]:
    """Return the predictions and the rows of the images of which at least one value is known."""
    index = np.flatnonzero(encode(rows).any(axis=1))
    return predictions.take(index), [rows[i] for i in index.tolist()]


def adjust(fitted: FittedMetadata, image_only: Predictions, rows: Sequence[Row], rule: Rule) -> Predictions:
    """Return the predictions for the same images with their metadata.

    Args:
        fitted: the adjustment.
        image_only: predictions from the images alone.
        rows: the images, of each of which a value is known.
        rule: the decision rule.
    """
    factors = fitted.factors
    p = apply_factors(image_only.probabilities, encode(rows), factors.weight * factors.log_factors)
    return replace(
        image_only, probabilities=p, decided=decide(p, rule.prior, rule.tau), threshold=fitted.threshold
    )


def measure(
    image_only: Predictions,
    adjusted: Predictions,
    rows: Sequence[Row],
    *,
    set_thresholds: np.ndarray,
    resamples: int,
) -> dict[str, Any]:
    """Measure predictions with and without metadata on the same N test images.

    Args:
        image_only: predictions without metadata.
        adjusted: predictions with metadata.
        rows: the images.
        set_thresholds: ``[K]``, thresholds of the prediction sets with metadata.
        resamples: number of bootstrap resamples.

    Returns:
        ``images``, ``metrics``, ``image_only``, ``prediction_sets`` and ``under_40``, as in
        ``MetadataInput`` and ``measure_sets``.
    """
    young = np.flatnonzero([row.age is not None and row.age < 40 for row in rows])
    under_40 = None
    if len(young) >= MIN_IMAGES:
        both = [bootstrap(p.take(young), resamples=resamples) for p in (adjusted, image_only)]
        metrics, alone = ({n: found[n] for n in UNDER_40_METRICS if n in found} for found in both)
        under_40 = {"images": len(young), "metrics": metrics, "image_only": alone}
    return {
        "images": len(rows),
        "metrics": bootstrap(adjusted, resamples=resamples),
        "image_only": bootstrap(image_only, resamples=resamples),
        "prediction_sets": measure_prediction_sets(adjusted, set_thresholds, resamples=resamples),
        "under_40": under_40,
    }


def metadata_field(
    fitted: FittedMetadata, metrics: Mapping[str, Any], codes: Sequence[str], target_sensitivity: float
) -> MetadataInput:
    """Return the manifest's field; ``metrics`` is ``metadata`` in ``metrics.json``."""
    sets, validation = metrics["prediction_sets"], metrics["validation"]
    thresholds = dict(zip(codes, map(float, fitted.set_thresholds), strict=True))
    return MetadataInput(
        ages=AGES,
        sexes=fitted.factors.sexes,
        sites=fitted.factors.sites,
        weight=fitted.factors.weight,
        threshold=fitted.threshold,
        target_sensitivity=target_sensitivity,
        sensitivity=validation["malignancy_sensitivity"],
        specificity=validation["malignancy_specificity"],
        prediction_sets=PredictionSets(
            coverage=COVERAGE,
            thresholds=thresholds,
            measured=sets["measured"],
            mean_size=sets["size"]["overall"],
        ),
        images=metrics["images"],
        metrics=metrics["metrics"],
        image_only=metrics["image_only"],
        under_40=None if metrics["under_40"] is None else Comparison(**metrics["under_40"]),
    )
