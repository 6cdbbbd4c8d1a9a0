"""Measures the quality of an image from the pixels that the model reads.

Measuring takes 0.3 ms at 224 × 224 pixels, so every request is measured. The limits are percentiles of the
training images (``training.calibration.image_quality``) and come with the bundle. The measurement comes after
cropping and scaling, so it ignores blur that the model cannot see.
"""

from typing import NamedTuple

import numpy as np

CLIPPED_FROM = 250
"""A pixel is over-exposed if all its channels reach this value."""


class Quality(NamedTuple):
    """The quality of one image.

    Attributes:
        sharpness: variance of the Laplacian of the luma, in squared grey levels; low if blurred.
        brightness: mean luma, 0 to 255.
        contrast: standard deviation of the luma, 0 to 127.5.
        clipped: share of over-exposed pixels, 0 to 1.
    """

    sharpness: float
    brightness: float
    contrast: float
    clipped: float


def measure_quality(pixels: np.ndarray) -> Quality:
    """Measure the quality of one image.

    Sharpness is the variance of the Laplacian over the inner pixels, with the 4-neighbour kernel
    (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a comparative study",
    ICPR 2000). Luma follows ITU-R BT.601, rounded to whole grey levels.

    Args:
        pixels: uint8 ``[H, W, C]``, RGB or one grey channel, at least 3 × 3 pixels.

    Raises:
        ValueError: the array has another dtype or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ValueError(f"expected uint8 [H, W, 1 or 3], got {pixels.dtype} {list(pixels.shape)}")
    if min(pixels.shape[:2]) < 3:
        raise ValueError(f"expected at least 3 × 3 pixels, got {pixels.shape[0]} × {pixels.shape[1]}")
    # Planes of small integers are six times as fast as [H, W, 3] floats.
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    luma = _luma(planes).astype(np.int16)
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    levels = luma.astype(np.float32)
    return Quality(
        sharpness=float(laplacian.astype(np.float32).var()),
        brightness=float(levels.mean()),
        contrast=float(levels.std()),
        clipped=np.count_nonzero(planes.min(axis=0) >= CLIPPED_FROM) / luma.size,
    )


def _luma(planes: np.ndarray) -> np.ndarray:
    """Return the luma ``[H, W]``, 0 to 255, of uint8 planes ``[C, H, W]``."""
    if len(planes) == 1:
        return np.asarray(planes[0])
    red, green, blue = planes
    # The weights sum to 256, so the sum fits into 16 bits.
    weighted = red * np.uint16(77) + green * np.uint16(150) + blue * np.uint16(29)
    return np.asarray((weighted + np.uint16(128)) >> 8)
