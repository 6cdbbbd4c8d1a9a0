"""Metrics by age, sex and body site, for subgroups with enough images.

There are no subgroups by skin tone, because the data does not label it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from training.data.dataset import Row
from training.metrics.scores import Predictions, bootstrap

MIN_IMAGES = 30
"""Subgroups with fewer images are left out."""

MIN_POSITIVES = 10
"""Minimum of malignant images for a sensitivity, of benign images for a specificity, of both for an AUC."""

MIN_PER_CLASS = 5
"""Minimum of images of every class for a balanced accuracy; a mean over fewer classes is not comparable."""

SUBGROUP_METRICS = (
    "balanced_accuracy",
    "accuracy_rule",
    "malignancy_sensitivity",
    "malignancy_specificity",
    "malignancy_auc",
)
"""The metrics of a subgroup, by their names in ``training.metrics.scores``."""

_SITES = {
    "head and neck": ("ear", "face", "neck", "scalp"),
    "torso": ("abdomen", "back", "chest", "trunk"),
    "upper extremity": ("hand", "upper extremity"),
    "lower extremity": ("foot", "lower extremity"),
    "unknown": ("unknown",),
}
"""General anatomic sites of the ISIC archive; acral and genital sites are too rare for a subgroup."""


def age_band(row: Row) -> str:
    """Return the age band in years: ``0-39``, ``40-59``, ``60+`` or ``unknown``."""
    if row.age is None:
        return "unknown"
    return "0-39" if row.age < 40 else "40-59" if row.age < 60 else "60+"


def site(row: Row) -> str:
    """Return the general anatomic site, ``unknown`` or ``other``."""
    return next((name for name, parts in _SITES.items() if row.localization in parts), "other")


FACTORS: dict[str, Callable[[Row], str]] = {"age": age_band, "sex": lambda row: row.sex, "site": site}
"""Maps each factor to the function that gives an image's value."""


def subgroups(
    predictions: Predictions, rows: Sequence[Row], *, resamples: int = 1000
) -> list[dict[str, Any]]:
    """Return the manifest's ``subgroups``, sorted by value within each factor.

    Args:
        predictions: predictions on the test part.
        rows: the same N images in the same order.
        resamples: number of bootstrap resamples.

    Returns:
        For each subgroup of at least ``MIN_IMAGES``: ``factor``, ``value``, ``images``, and ``metrics``,
        each as ``{"value", "low", "high"}``. Metrics for which the subgroup is too small are left out.
    """
    found = []
    for factor, value_of in FACTORS.items():
        values = np.array([value_of(row) for row in rows])
        for value in np.unique(values):
            index = np.flatnonzero(values == value)
            if len(index) < MIN_IMAGES:
                continue
            group = predictions.take(index)
            measured = bootstrap(group, resamples=resamples)
            metrics = {name: measured[name] for name in _supported(group)}
            found.append({"factor": factor, "value": str(value), "images": len(index), "metrics": metrics})
    return found


def _supported(group: Predictions) -> list[str]:
    """Return the metrics for which the group has enough images."""
    malignant = int(group.malignant[group.labels].sum())
    positives, negatives = malignant >= MIN_POSITIVES, len(group.labels) - malignant >= MIN_POSITIVES
    every_class = np.bincount(group.labels, minlength=len(group.codes)).min() >= MIN_PER_CLASS
    enough = (every_class, True, positives, negatives, positives and negatives)
    return [name for name, supported in zip(SUBGROUP_METRICS, enough, strict=True) if supported]
