"""The bootstrap over lesions: weights of the resamples, and intervals.

The metric of a resample is the metric with each image weighted by how often it was drawn. All resamples
together are therefore a few matrix products.
"""

import numpy as np
from scipy.stats import binomtest


def lesion_weights(
    labels: np.ndarray, lesions: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """Return how often each resample draws each image, float64 ``[resamples, N]``.

    Lesions are resampled, because images of one lesion are not independent (Field and Welsh,
    "Bootstrapping clustered data", J. R. Stat. Soc. B 69, 2007). They are resampled within their class,
    so that no resample lacks a rare class.

    Args:
        labels: ``[N]``, the class of each image; equal for all images of a lesion.
        lesions: str ``[N]``, the lesion of each image.
        resamples: number of resamples.
        seed: seed of the random numbers.
    """
    rng = np.random.default_rng(seed)
    _, first, lesion_of = np.unique(lesions, return_index=True, return_inverse=True)
    # Lesions are ordered by their first image, so that their names do not influence the result.
    by_first_image = np.argsort(first)
    groups = [by_first_image[labels[first[by_first_image]] == c] for c in _in_order(labels)]
    drawn = np.zeros((resamples, len(first)))
    for row in drawn:
        for group in groups:
            chosen = rng.integers(0, len(group), len(group))
            row[group] = np.bincount(chosen, minlength=len(group))
    return drawn[:, lesion_of]


def interval(value: float, resampled: np.ndarray, *, lesions: int | None = None) -> dict[str, float]:
    """Return a metric with its 95 % percentile interval, as ``{"value", "low", "high"}``.

    If a share is 0 or 1, all resamples agree and the percentile interval has no width. The interval is then
    Wilson's (JASA 22, 1927), with lesions as the trials, because images of one lesion are not independent.

    Args:
        value: the metric on the data.
        resampled: ``[B]``, the metric on each resample, NaN where it is undefined.
        lesions: number of lesions on which a share is based; None for a metric that is not a share.
    """
    if lesions and min(abs(value), abs(1 - value)) < 1e-9:
        successes = lesions * round(value)
        bounds = binomtest(successes, lesions).proportion_ci(method="wilson")
        return {"value": float(value), "low": float(bounds.low), "high": float(bounds.high)}
    low, high = np.percentile(resampled[~np.isnan(resampled)], (2.5, 97.5))
    return {"value": float(value), "low": float(low), "high": float(high)}


def mirrored_interval(value: float, resampled: np.ndarray) -> dict[str, float]:
    """Return a metric with its basic bootstrap interval, for a metric that noise can only raise, such as ECE.

    Resampling adds noise to the noise of the data. The resampled metric exceeds the metric on the data by
    about as much as this exceeds the true value. The percentiles are therefore mirrored at the value:
    2 · value − percentile (Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section
    5.2), and limited to 0 or more. The value lies in the upper part of the interval, or above it.

    Args:
        value: the metric on the data.
        resampled: ``[B]``, the metric on each resample, NaN where it is undefined.
    """
    low, high = 2 * value - np.percentile(resampled[~np.isnan(resampled)], (97.5, 2.5))
    return {"value": float(value), "low": max(float(low), 0.0), "high": max(float(high), 0.0)}


def mean_interval(values: np.ndarray, weights: np.ndarray, *, lesions: int | None = None) -> dict[str, float]:
    """Return the mean of ``values`` with its interval.

    Args:
        values: ``[N]``, one value per image.
        weights: ``[B, N]``, from ``lesion_weights``.
        lesions: see ``interval``.
    """
    return interval(float(values.mean()), weights @ values / weights.sum(axis=1), lesions=lesions)


def _in_order(labels: np.ndarray) -> np.ndarray:
    """Return the distinct labels in the order of their first occurrence."""
    distinct, first = np.unique(labels, return_index=True)
    return np.asarray(distinct[np.argsort(first)])
