"""Fits limits of image quality: quantiles of the training images.

Fixed limits would flag many good images, because sharpness and brightness depend on the instrument and on the
scale. On HAM10000 at 224 pixels, the quantile 0.9975 flags 1.3 % of the validation images. It flags all of
them after a Gaussian blur of 2 pixels, and 90 % at half or at 1.6 times the brightness.

A dark lesion that fills the image lowers the mean brightness, so some large melanomas count as too dark. The
service therefore only warns if an image is outside the limits.
"""

import numpy as np

from models.quality import Quality, measure_quality

QUANTILE = 0.9975
"""Share of the training images within each limit."""

_LOWEST_CLIPPED_MAX = 0.01
"""Most training images have no over-exposed pixel, but a few specular highlights do no harm."""


def measure_images(pixels: np.ndarray) -> np.ndarray:
    """Measure the quality of each image, float ``[N, 4]`` in the order of the fields of ``Quality``.

    Args:
        pixels: uint8 ``[N, H, W, C]``, possibly memory-mapped; it is read one image at a time.
    """
    return np.array([measure_quality(np.asarray(image)) for image in pixels]).reshape(
        -1, len(Quality._fields)
    )


def fit_quality_limits(measured: np.ndarray, quantile: float = QUANTILE) -> dict[str, float]:
    """Return the manifest's ``quality``: the limits and their quantile.

    Args:
        measured: ``[N, 4]``, from ``measure_images`` of the training images.
        quantile: share of the images within each limit.
    """
    sharpness, brightness, contrast, clipped = measured.T
    return {
        "sharpness_min": float(np.quantile(sharpness, 1 - quantile)),
        "brightness_min": float(np.quantile(brightness, 1 - quantile)),
        "brightness_max": float(np.quantile(brightness, quantile)),
        "contrast_min": float(np.quantile(contrast, 1 - quantile)),
        "clipped_max": max(float(np.quantile(clipped, quantile)), _LOWEST_CLIPPED_MAX),
        "quantile": quantile,
    }
