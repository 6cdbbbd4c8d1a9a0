"""The bootstrap over lesions: how often each image is drawn, and the interval that follows.

A figure of a resample is the same figure with each image counted as often as it was drawn, so that
all resamples are a few matrix products.
"""

import numpy as np


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


def interval(value: float, drawn: np.ndarray) -> dict[str, float]:
    """``{"value", "low", "high"}``: a figure with its 95 % percentile interval.

    Args:
        value: the figure of the data itself.
        drawn: the same of each resample; NaN where a resample has none.
    """
    low, high = np.percentile(drawn[~np.isnan(drawn)], (2.5, 97.5))
    return {"value": float(value), "low": float(low), "high": float(high)}


def mean_interval(values: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """The mean of ``values`` ``[N]`` with its interval, by the weights of ``lesion_weights``."""
    return interval(float(values.mean()), weights @ values / weights.sum(axis=1))


def _in_order(labels: np.ndarray) -> np.ndarray:
    """The distinct labels in the order of their first occurrence."""
    distinct, first = np.unique(labels, return_index=True)
    return np.asarray(distinct[np.argsort(first)])
