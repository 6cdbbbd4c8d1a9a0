"""What is usual of a model's answers, from the validation part: the yardstick for later answers.

A reference for drift, and the limit above which a score is unusual: that of the members'
disagreement (``Combination.disagreement``) and the out-of-distribution score.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.safeguards import CONFIDENCE_BINS

QUANTILE = 0.99
"""Share of the validation images whose score is usual."""

_ROUNDING = 1e-4  # what float32 sums may add where all scores are equal


def drift_reference(probabilities: np.ndarray, decided: np.ndarray, codes: Sequence[str]) -> dict[str, Any]:
    """The manifest's ``drift_reference``: how often each class is decided, and how confidently.

    Args:
        probabilities: float ``[N, K]`` on validation.
        decided: int ``[N]``, the decision rule's class.
        codes: the K class codes.

    Returns:
        ``images``: N; ``labels``: share of each decided class by code; ``confidence``: shares of the
        images by their largest probability, in equal bins of [0, 1], the last of which holds 1.
    """
    top = np.minimum((probabilities.max(axis=1) * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    counts = np.bincount(decided, minlength=len(codes))
    bins = np.bincount(top, minlength=CONFIDENCE_BINS)
    return {
        "images": len(decided),
        "labels": {code: float(n / len(decided)) for code, n in zip(codes, counts, strict=True)},
        "confidence": tuple(float(n / len(decided)) for n in bins),
    }


def unusual_from(scores: np.ndarray, quantile: float = QUANTILE) -> float:
    """The threshold above which a score is unusual: ``quantile`` of ``scores`` are at or under it.

    A little above that score, so that rounding does not make usual what the graph computes again.
    """
    found = float(np.quantile(scores, quantile, method="higher"))
    return found + _ROUNDING * max(abs(found), 1.0)
