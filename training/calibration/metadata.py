"""Age, sex and site as factors of the probabilities.

p(y | x, m) ∝ p(y | x) · Π_f (p(m_f | y) / p(m_f))^λ over the known fields f: Bayes' theorem for fields that
are independent of each other and of the image given the class, with an exponent λ below 1, because they are
not independent. The tables are counts of training lesions. Only λ is fitted, on validation images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.metadata import SEXES, SITES, Metadata
from training.calibration.combination import TINY
from training.data.dataset import Row

AGES = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0)
"""Lower ends of the age groups, in years."""

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Grid of λ. Coarse on purpose: a finely tuned exponent loses on other images what it gained."""

PSEUDO_LESIONS = 5.0
"""Lesions of average metadata that are added to every class, so that a rare class has no factor of 0."""


@dataclass(frozen=True)
class MetadataFactors:
    """What the known fields say of the classes.

    Attributes:
        log_factors: ``[columns, K]``, log p(value | class) - log p(value).
        weight: λ.
    """

    log_factors: np.ndarray
    weight: float

    def apply(self, probabilities: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Probabilities ``[N, K]`` with metadata, from those without and the input rows ``[N, columns]``.

        A row of zeros leaves its probabilities as they are.
        """
        return apply_factors(probabilities, rows, self.weight * self.log_factors)


def apply_factors(probabilities: np.ndarray, rows: np.ndarray, log_factors: np.ndarray) -> np.ndarray:
    """Multiply ``[N, K]`` probabilities by the factors of ``[N, columns]`` rows, and normalise."""
    factors = np.exp(rows @ log_factors)
    joint = probabilities * factors
    adjusted = joint / np.maximum(joint.sum(axis=1, keepdims=True), TINY)
    return np.asarray(np.where(rows.any(axis=1, keepdims=True), adjusted, probabilities))


def metadata_of(row: Row) -> Metadata:
    """What the data set says of a lesion; values that are not among the known ones count as unknown."""
    return Metadata(
        age=row.age,
        sex=row.sex if row.sex in SEXES else None,
        site=row.localization if row.localization in SITES else None,
    )


def encode(rows: Sequence[Row]) -> np.ndarray:
    """The graph's second input for ``rows``, float32 ``[N, columns]``; see ``MetadataInput``."""
    encoded = np.zeros((len(rows), len(AGES) + len(SEXES) + len(SITES)), np.float32)
    for line, row in zip(encoded, rows, strict=True):
        known = metadata_of(row)
        if known.age is not None:
            line[np.searchsorted(AGES, known.age, side="right") - 1] = 1
        if known.sex is not None:
            line[len(AGES) + SEXES.index(known.sex)] = 1
        if known.site is not None:
            line[len(AGES) + len(SEXES) + SITES.index(known.site)] = 1
    return encoded


def count_factors(rows: Sequence[Row], labels: np.ndarray, classes: int) -> np.ndarray:
    """Count log p(value | class) - log p(value), ``[columns, K]``, over one image of each training lesion.

    Each p(value | class) is shrunk towards p(value) by ``PSEUDO_LESIONS``. Within a field, p is the share
    among the lesions whose value is known.

    Args:
        rows: the training images.
        labels: int ``[N]``, class of each.
        classes: K.
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
        seen = overall[:, 0] > 0  # a value that no training lesion has says nothing
        log_factors[start : start + width][seen] = np.log(shrunk[seen] / overall[seen])
        start += width
    return np.asarray(log_factors)


def fit_metadata(
    log_factors: np.ndarray, probabilities: np.ndarray, rows: np.ndarray, labels: np.ndarray
) -> MetadataFactors:
    """Choose λ from ``WEIGHTS`` by the log loss on validation images; on equal losses the smaller.

    Args:
        log_factors: from ``count_factors``.
        probabilities: float ``[N, K]`` of the validation images without metadata.
        rows: float32 ``[N, columns]``, their metadata.
        labels: int ``[N]``.
    """

    def log_loss(weight: float) -> float:
        adjusted = apply_factors(probabilities, rows, weight * log_factors)
        return float(-np.log(np.maximum(adjusted[np.arange(len(labels)), labels], TINY)).mean())

    return MetadataFactors(log_factors, min(WEIGHTS, key=lambda weight: (round(log_loss(weight), 6), weight)))
