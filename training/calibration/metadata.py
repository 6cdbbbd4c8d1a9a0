"""Adjusts the probabilities by age, sex and body site.

p(y | x, m) ∝ p(y | x) · Π_f (p(m_f | y) / p(m_f))^λ over the known fields f. With λ = 1, this is Bayes'
theorem for fields that are independent of each other and of the image given the class. They are not
independent, so λ is usually below 1. The factors are counts of training lesions; λ is fitted on validation
images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.manifest.metadata import SEXES, SITES, Metadata, Sex, Site, encode_metadata
from training.calibration.combination import TINY
from training.data.dataset import Row

AGES = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0)
"""Lower bounds of the age groups in years."""

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Candidates for λ. The grid is coarse to avoid overfitting the validation part."""

PSEUDO_LESIONS = 5.0
"""Number of lesions with average metadata added to every class, so that no factor is 0."""


@dataclass(frozen=True)
class MetadataFactors:
    """The fitted factors.

    Attributes:
        log_factors: ``[columns, K]``, log p(value | class) − log p(value).
        weight: λ.
    """

    log_factors: np.ndarray
    weight: float

    @property
    def columns(self) -> np.ndarray:
        """Columns of ``encode`` that the graph gets: all ages, and the other values seen in training."""
        return np.flatnonzero(self.log_factors.any(axis=1) | (np.arange(len(self.log_factors)) < len(AGES)))

    @property
    def sexes(self) -> tuple[Sex, ...]:
        """The values of the columns."""
        return tuple(sex for at, sex in enumerate(SEXES, len(AGES)) if at in self.columns)

    @property
    def sites(self) -> tuple[Site, ...]:
        """The values of the columns."""
        return tuple(site for at, site in enumerate(SITES, len(AGES) + len(SEXES)) if at in self.columns)

    def apply(self, probabilities: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the probabilities ``[N, K]`` adjusted by the rows ``[N, columns]`` of ``encode``.

        A row of zeros does not change the probabilities.
        """
        return apply_factors(probabilities, rows, self.weight * self.log_factors)


def apply_factors(probabilities: np.ndarray, rows: np.ndarray, log_factors: np.ndarray) -> np.ndarray:
    """Multiply probabilities ``[N, K]`` by the factors of rows ``[N, columns]``, and normalise them."""
    factors = np.exp(rows @ log_factors)
    joint = probabilities * factors
    adjusted = joint / np.maximum(joint.sum(axis=1, keepdims=True), TINY)
    return np.asarray(np.where(rows.any(axis=1, keepdims=True), adjusted, probabilities))


def metadata_of(row: Row) -> Metadata:
    """Return the metadata of an image; a sex or site that the contract does not list counts as unknown."""
    return Metadata(
        age=row.age,
        sex=next((sex for sex in SEXES if sex == row.sex), None),
        site=next((site for site in SITES if site == row.localization), None),
    )


def encode(rows: Sequence[Row]) -> np.ndarray:
    """Return the graph's second input for one or more ``rows``, with columns for all values.

    Returns:
        float32 ``[N, columns]``; see ``models.manifest.metadata.encode_metadata``.
    """
    return np.stack([encode_metadata(metadata_of(row), AGES, SEXES, SITES) for row in rows])


def count_factors(rows: Sequence[Row], labels: np.ndarray, classes: int) -> np.ndarray:
    """Return log p(value | class) − log p(value), ``[columns, K]``, from one image of each training lesion.

    ``PSEUDO_LESIONS`` shrinks each p(value | class) towards p(value). Within a field, p is the share among
    the lesions whose value is known.

    Args:
        rows: the training images.
        labels: int ``[N]``, class of each image.
        classes: number of classes K.
    """
    first = {row.lesion_id: index for index, row in reversed(list(enumerate(rows)))}
    chosen = np.array(sorted(first.values()))
    encoded = encode([rows[index] for index in chosen]).astype(np.float64)
    one_hot = np.eye(classes)[labels[chosen]]
    counts = encoded.T @ one_hot
    log_factors = np.zeros_like(counts)
    start = 0
    for width in (len(AGES), len(SEXES), len(SITES)):
        of_field = counts[start : start + width]
        overall = of_field.sum(axis=1, keepdims=True) / max(of_field.sum(), 1.0)
        shrunk = (of_field + PSEUDO_LESIONS * overall) / (of_field.sum(axis=0) + PSEUDO_LESIONS)
        seen = overall[:, 0] > 0  # values without training lesions keep the factor 1
        log_factors[start : start + width][seen] = np.log(shrunk[seen] / overall[seen])
        start += width
    return np.asarray(log_factors)


def fit_metadata(
    log_factors: np.ndarray, probabilities: np.ndarray, rows: np.ndarray, labels: np.ndarray
) -> MetadataFactors:
    """Select λ from ``WEIGHTS`` by the log loss on validation images; on equal losses the smaller one.

    Args:
        log_factors: from ``count_factors``.
        probabilities: float ``[N, K]`` of the validation images without metadata.
        rows: float32 ``[N, columns]``, their metadata from ``encode``.
        labels: int ``[N]``, the true class.
    """

    def log_loss(weight: float) -> float:
        adjusted = apply_factors(probabilities, rows, weight * log_factors)
        return float(-np.log(np.maximum(adjusted[np.arange(len(labels)), labels], TINY)).mean())

    return MetadataFactors(log_factors, min(WEIGHTS, key=lambda weight: (round(log_loss(weight), 6), weight)))
