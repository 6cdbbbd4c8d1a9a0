"""Limits of image quality, from quantiles of the training images.

Limits fixed by guess flag much clean dermatoscopy: what is sharp or bright enough depends on the
instrument and on the scale. So each limit is a quantile of the training images, far enough out that
few clean images pass it. On HAM10000 at 224 pixels and 0.9975 that is 1.3 % of the validation images
in all, while a Gaussian blur of 2 pixels is always noticed, half the brightness nine times in ten,
and 1.6 times the brightness as well.

A limitation: mean brightness is lower where a dark lesion fills the picture, so some
large melanomas count as darker than usual. So the service warns outside the limits and does not refuse the
image.
"""

from collections.abc import Mapping

import numpy as np

from models.quality import Quality, measure_quality

QUANTILE = 0.9975
"""Share of the training images on the good side of each limit."""

_CLIPPED_AT_LEAST = 0.01
"""Most pictures have no over-exposed pixel at all; a few specular highlights harm nothing."""


def measure_images(pixels: np.ndarray) -> np.ndarray:
    """The figures of ``models.quality`` of each image, float ``[N, 4]`` in the order of ``Quality``.

    Args:
        pixels: uint8 ``[N, H, W, C]``; may be mapped from a file, is read image by image.
    """
    return np.array([measure_quality(np.asarray(image)) for image in pixels]).reshape(
        -1, len(Quality._fields)
    )


def fit_quality_limits(measured: np.ndarray, quantile: float = QUANTILE) -> dict[str, float]:
    """The manifest's ``quality``: limits and the quantile that they are.

    Args:
        measured: ``[N, 4]`` of the training images, from ``measure_images``.
        quantile: share of them on the good side of each limit.
    """
    sharpness, brightness, contrast, clipped = measured.T
    return {
        "sharpness_min": float(np.quantile(sharpness, 1 - quantile)),
        "brightness_min": float(np.quantile(brightness, 1 - quantile)),
        "brightness_max": float(np.quantile(brightness, quantile)),
        "contrast_min": float(np.quantile(contrast, 1 - quantile)),
        "clipped_max": max(float(np.quantile(clipped, quantile)), _CLIPPED_AT_LEAST),
        "quantile": quantile,
    }


def flagged_shares(measured: np.ndarray, limits: Mapping[str, float]) -> dict[str, float]:
    """Share of images outside each limit, by its name, and under ``"any"`` outside at least one.

    Args:
        measured: ``[N, 4]``, from ``measure_images``.
        limits: from ``fit_quality_limits``.
    """
    sharpness, brightness, contrast, clipped = measured.T
    outside = {
        "sharpness_min": sharpness < limits["sharpness_min"],
        "brightness_min": brightness < limits["brightness_min"],
        "brightness_max": brightness > limits["brightness_max"],
        "contrast_min": contrast < limits["contrast_min"],
        "clipped_max": clipped > limits["clipped_max"],
    }
    outside["any"] = np.any(list(outside.values()), axis=0)
    return {name: float(where.mean()) for name, where in outside.items()}
