"""The model's figures by age, sex and body site, for groups with enough images.

Skin tone is not among the groups: the data does not label it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from training.data.dataset import Row
from training.metrics.scores import Predictions, bootstrap

FEWEST_IMAGES = 30
"""A smaller group is left out."""

FEWEST_OF_GROUP = 10
"""Malignant images that a sensitivity needs, benign ones that a specificity needs; an AUC needs both."""

FEWEST_OF_CLASS = 5
"""Images of every class that a balanced accuracy needs: a mean over fewer classes cannot be compared."""

FIGURES = (
    "balanced_accuracy",
    "accuracy_rule",
    "malignancy_sensitivity",
    "malignancy_specificity",
    "malignancy_auc",
)
"""What is measured of a group, as ``training.metrics.scores`` names it."""

_SITES = {
    "head and neck": ("ear", "face", "neck", "scalp"),
    "torso": ("abdomen", "back", "chest", "trunk"),
    "upper extremity": ("hand", "upper extremity"),
    "lower extremity": ("foot", "lower extremity"),
    "unknown": ("unknown",),
}
"""The general anatomic sites of the ISIC archive; acral and genital sites are too rare to stand alone."""


def age_band(row: Row) -> str:
    """Ages in years, in three bands."""
    if row.age is None:
        return "unknown"
    return "0-39" if row.age < 40 else "40-59" if row.age < 60 else "60+"


def site(row: Row) -> str:
    """The general anatomic site."""
    return next((name for name, parts in _SITES.items() if row.localization in parts), "other")


FACTORS: dict[str, Callable[[Row], str]] = {"age": age_band, "sex": lambda row: row.sex, "site": site}
"""What the groups differ in, and the group of an image."""


def subgroups(
    predictions: Predictions, rows: Sequence[Row], *, resamples: int = 1000
) -> list[dict[str, Any]]:
    """The manifest's ``subgroups``, by factor and value.

    Args:
        predictions: on the test part.
        rows: of the same N images in the same order.
        resamples: of the bootstrap.

    Returns:
        For each group of at least ``FEWEST_IMAGES``: ``factor``, ``value``, ``images``, and ``metrics``
        as ``{"value", "low", "high"}``, each only where its images suffice.
    """
    found = []
    for factor, value_of in FACTORS.items():
        values = np.array([value_of(row) for row in rows])
        for value in np.unique(values):
            index = np.flatnonzero(values == value)
            if len(index) < FEWEST_IMAGES:
                continue
            group = predictions.take(index)
            figures = bootstrap(group, resamples=resamples)
            metrics = {name: figures[name] for name in _supported(group)}
            found.append({"factor": factor, "value": str(value), "images": len(index), "metrics": metrics})
    return found


def _supported(group: Predictions) -> list[str]:
    """The figures for which the group has enough images."""
    malignant = int(group.malignant[group.labels].sum())
    positives, negatives = malignant >= FEWEST_OF_GROUP, len(group.labels) - malignant >= FEWEST_OF_GROUP
    every_class = np.bincount(group.labels, minlength=len(group.codes)).min() >= FEWEST_OF_CLASS
    enough = (every_class, True, positives, negatives, positives and negatives)
    return [name for name, supported in zip(FIGURES, enough, strict=True) if supported]
