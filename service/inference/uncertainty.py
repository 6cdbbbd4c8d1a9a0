"""How sure one answer is: three figures, each between what is known and what is not."""

import math
from collections.abc import Collection
from typing import NamedTuple

from service.errors import InferenceFailed

_ROUNDING = 1e-3  # of float32 sums in the graph


class Uncertainty(NamedTuple):
    """How sure one answer is.

    Attributes:
        entropy: of the probabilities, 0 (one class is certain) to 1 (all are equally likely).
        disagreement: of the ensemble's members, 0 (all say the same) to 1.
        ood_score: how unlike the training data the image is, on the scale of the bundle's method.
    """

    entropy: float
    disagreement: float
    ood_score: float


def judge(probabilities: Collection[float], disagreement: float, ood_score: float) -> Uncertainty:
    """Take the graph's ``disagreement`` and ``ood_score``, and measure the entropy.

    Args:
        probabilities: of every class, summing to 1.
        disagreement: weighted mean of the members' total variation distances from the ensemble.
        ood_score: higher is stranger.

    Raises:
        InferenceFailed: a figure is none that a graph may give.
    """
    if not math.isfinite(ood_score) or not -_ROUNDING <= disagreement <= 1 + _ROUNDING:
        raise InferenceFailed("the model's output holds no usable uncertainty")
    return Uncertainty(entropy(probabilities), min(1.0, max(0.0, disagreement)), ood_score)


def entropy(probabilities: Collection[float]) -> float:
    """Shannon entropy over its maximum, ``-sum(p log p) / log K``, 0..1 (Shannon, 1948; 0 log 0 = 0)."""
    nats = -sum(p * math.log(p) for p in probabilities if p > 0)
    return min(1.0, max(0.0, nats / math.log(len(probabilities))))
