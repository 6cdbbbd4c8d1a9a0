"""The bootstrap over lesions: how often each image is drawn, and the interval that follows.

A figure of a resample is the same figure with each image counted as often as it was drawn, so that
all resamples are a few matrix products.
"""

import numpy as np
from scipy.stats import binomtest


def lesion_weights(
    labels: np.ndarray, lesions: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """How often each resample draws each image, float ``[resamples, N]``.

    Lesions, not images, are resampled: images of one lesion are not independent (Field and Welsh,
    "Bootstrapping clustered data", J. R. Stat. Soc. B 69, 2007). They are resampled within their
    class, so that a resample never lacks a rare class.

    Args:
        labels: ``[N]``, the class of each image; all images of a lesion have the same.
        lesions: str ``[N]``, the lesion of each image.
        resamples: number of rows.
        seed: the same seed draws the same.
    """
    rng = np.random.default_rng(seed)
    _, first, lesion_of = np.unique(lesions, return_index=True, return_inverse=True)
    # In the order of their first image, so that renaming lesions changes nothing.
    by_first_image = np.argsort(first)
    groups = [by_first_image[labels[first[by_first_image]] == c] for c in _in_order(labels)]
    drawn = np.zeros((resamples, len(first)))
    for row in drawn:
        for group in groups:
            chosen = rng.integers(0, len(group), len(group))
            row[group] = np.bincount(chosen, minlength=len(group))
    return drawn[:, lesion_of]


def interval(value: float, drawn: np.ndarray, *, lesions: int | None = None) -> dict[str, float]:
    """``{"value", "low", "high"}``: a figure with its 95 % percentile interval.

    Where a share is 0 or 1, every resample gives the same, and percentiles would claim certainty. Then the
    interval is Wilson's (JASA 22, 1927), with lesions as the trials: images of one lesion are not
    independent.

    Args:
        value: the figure of the data itself.
        drawn: the same of each resample; NaN where a resample has none.
        lesions: for a figure from 0 to 1, the number of lesions that it rests on.
    """
    if lesions and min(abs(value), abs(1 - value)) < 1e-9:
        successes = lesions * round(value)
        bounds = binomtest(successes, lesions).proportion_ci(method="wilson")
        return {"value": float(value), "low": float(bounds.low), "high": float(bounds.high)}
    low, high = np.percentile(drawn[~np.isnan(drawn)], (2.5, 97.5))
    return {"value": float(value), "low": float(low), "high": float(high)}


def mirrored_interval(value: float, drawn: np.ndarray) -> dict[str, float]:
    """As ``interval``, for a figure above 0 that noise can only raise, such as a calibration error.

    A resample adds its noise to that of the data, so its figure exceeds the data's by about as much as the
    data's exceeds the truth. The percentiles are therefore mirrored at the value: 2 · value − percentile
    (the basic bootstrap; Davison and Hinkley, 1997, section 5.2). The value lies in the upper part of the
    interval, or above it.
    """
    low, high = 2 * value - np.percentile(drawn[~np.isnan(drawn)], (97.5, 2.5))
    return {"value": float(value), "low": max(float(low), 0.0), "high": max(float(high), 0.0)}


def mean_interval(values: np.ndarray, weights: np.ndarray, *, lesions: int | None = None) -> dict[str, float]:
    """The mean of ``values`` ``[N]`` with its interval, by the weights of ``lesion_weights``.

    Args:
        values: of the images.
        weights: ``[B, N]``, how often each resample draws each image.
        lesions: for shares, see ``interval``.
    """
    return interval(float(values.mean()), weights @ values / weights.sum(axis=1), lesions=lesions)


def _in_order(labels: np.ndarray) -> np.ndarray:
    """The distinct labels in the order of their first occurrence."""
    distinct, first = np.unique(labels, return_index=True)
    return np.asarray(distinct[np.argsort(first)])
