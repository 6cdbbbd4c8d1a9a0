"""Prediction drift: whether answers are spread over classes and confidences as on the validation images.

Nothing of an image is kept but two small numbers, its class and its bin, for as long as it is in the
window.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Literal

from models.bundle import CONFIDENCE_BINS, DriftReference
from service.settings import MIN_DRIFT_IMAGES

MIN_IMAGES = MIN_DRIFT_IMAGES
"""Below so many images the index is not computed.

By chance alone the index of n images against N is about (bins - 1)(1/n + 1/N), with a standard
deviation of sqrt(2 (bins - 1))(1/n + 1/N), see ``population_stability_index``. For the 10 bins of
confidence, n = 200 and the N = 1,500 of the shipped model that is 0.05 with 0.024: two of them below
0.1, from which on a shift is customarily looked at.
"""

_SMOOTHING = 0.5  # images added to every bin of both sides, else one empty bin makes the index infinite


def population_stability_index(counts: Sequence[float], reference: Sequence[float]) -> float:
    """How far two samples, counted in the same bins, are apart: 0 when their shares are equal.

    The sum over bins of (p - q) ln(p / q), for shares p of ``counts`` and q of ``reference``: the
    divergence of Kullback and Leibler, taken both ways (their "On Information and Sufficiency", Annals
    of Mathematical Statistics 22, 1951). Half an image is added to every bin of both sides (Jeffreys'
    prior). What chance makes of it: Yurdakul and Naranjo, "Statistical properties of the population
    stability index", Journal of Risk Model Validation 14(4), 2020.

    Args:
        counts, reference: numbers of images by bin, each with a sum above 0.
    """
    shares = []
    for side in (counts, reference):
        total = sum(side) + _SMOOTHING * len(side)
        shares.append([(count + _SMOOTHING) / total for count in side])
    found: float = sum((p - q) * math.log(p / q) for p, q in zip(*shares, strict=True))
    return found


class Drift:
    """The last images answered by one model, against its reference. An image costs O(1).

    Only the event loop adds images; another thread that reads may miss the last of them.
    """

    def __init__(self, reference: DriftReference, *, window: int) -> None:
        """Begin with no image; at most the last ``window`` are counted."""
        self._codes = {code: index for index, code in enumerate(reference.labels)}
        self._reference = {
            "label": [share * reference.images for share in reference.labels.values()],
            "confidence": [share * reference.images for share in reference.confidence],
        }
        self._counts = {of: [0] * len(bins) for of, bins in self._reference.items()}
        self._window: deque[tuple[int, int]] = deque()
        self._size = window

    def add(self, label: str, confidence: float) -> None:
        """Count one answer: its predicted class' code, and its largest probability, 0..1."""
        cell = self._codes[label], min(int(confidence * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)
        self._window.append(cell)
        self._count(cell, 1)
        if len(self._window) > self._size:
            self._count(self._window.popleft(), -1)

    @property
    def images(self) -> int:
        """Number of images in the window."""
        return len(self._window)

    def index(self, of: Literal["label", "confidence"]) -> float:
        """The population stability index; NaN while there are fewer than ``MIN_IMAGES`` images."""
        counts = list(self._counts[of])
        if sum(counts) < MIN_IMAGES:
            return math.nan
        return population_stability_index(counts, self._reference[of])

    def _count(self, cell: tuple[int, int], step: int) -> None:
        label, confidence = cell
        self._counts["label"][label] += step
        self._counts["confidence"][confidence] += step
