"""Prediction drift: compares recent predictions with those on the validation images.

The module stores two small numbers for each image in the window: its predicted class and its bin of
confidence.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Literal

from models.bundle import CONFIDENCE_BINS, DriftReference
from service.settings import MIN_DRIFT_IMAGES

MIN_IMAGES = MIN_DRIFT_IMAGES
"""Number of images below which the index is not computed.

Without drift, the index of n images against N has a mean of about (bins - 1)(1/n + 1/N) and a standard
deviation of sqrt(2 (bins - 1))(1/n + 1/N), see ``population_stability_index``. With 10 bins of confidence,
n = 200 and the N = 1,500 of the shipped model, the mean is 0.05 and the standard deviation 0.024. The
customary limit of 0.1 is two standard deviations above that mean.
"""

_SMOOTHING = 0.5  # images added to every bin; without them an empty bin would make the index infinite


def population_stability_index(counts: Sequence[float], reference: Sequence[float]) -> float:
    """Return the population stability index of two histograms. It is 0 if their shares are equal.

    The index is the sum over bins of (p - q) ln(p / q), with the shares p of ``counts`` and q of
    ``reference``. This is the symmetric Kullback-Leibler divergence (Kullback and Leibler, "On Information
    and Sufficiency", Annals of Mathematical Statistics 22, 1951). Half an image is added to every bin of
    both (Jeffreys' prior). For its distribution without drift, see Yurdakul and Naranjo, "Statistical
    properties of the population stability index", Journal of Risk Model Validation 14(4), 2020.

    Args:
        counts, reference: numbers of images by bin, with the same bins. Each has a sum above 0.
    """
    shares = []
    for histogram in (counts, reference):
        total = sum(histogram) + _SMOOTHING * len(histogram)
        shares.append([(count + _SMOOTHING) / total for count in histogram])
    index: float = sum((p - q) * math.log(p / q) for p, q in zip(*shares, strict=True))
    return index


class Drift:
    """The recent predictions of one model and their drift from its reference.

    Only the event loop adds images. Other threads may read, and may miss the last image.
    """

    def __init__(self, reference: DriftReference, *, window: int) -> None:
        """Start without images. ``window`` is the largest number of recent images that count."""
        self._codes = {code: index for index, code in enumerate(reference.labels)}
        self._reference = {
            "label": [share * reference.images for share in reference.labels.values()],
            "confidence": [share * reference.images for share in reference.confidence],
        }
        self._counts = {of: [0] * len(bins) for of, bins in self._reference.items()}
        self._window: deque[tuple[int, int]] = deque()
        self._size = window

    def add(self, label: str, confidence: float) -> None:
        """Count one prediction: the code of its class, and its largest probability, 0..1. Takes O(1)."""
        bins = self._codes[label], min(int(confidence * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)
        self._window.append(bins)
        self._count(bins, 1)
        if len(self._window) > self._size:
            self._count(self._window.popleft(), -1)

    @property
    def images(self) -> int:
        """Number of images in the window."""
        return len(self._window)

    def index(self, of: Literal["label", "confidence"]) -> float:
        """Return the population stability index of the window, or NaN below ``MIN_IMAGES`` images."""
        counts = list(self._counts[of])
        if sum(counts) < MIN_IMAGES:
            return math.nan
        return population_stability_index(counts, self._reference[of])

    def _count(self, bins: tuple[int, int], step: int) -> None:
        label, confidence = bins
        self._counts["label"][label] += step
        self._counts["confidence"][confidence] += step
