"""From raw logits to decisions, fitted on validation data and on nothing else.

Three things, in this order: one temperature per member, so that the ensemble's probabilities mean
what they say; the decision rule's tau; the malignancy threshold.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score

TAU_GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Coarse on purpose: a finely tuned rule loses from validation to test what it gained."""


@dataclass(frozen=True)
class Calibration:
    """What turns the members' logits into probabilities and decisions.

    Attributes:
        temperatures: divides the logits, one per member.
        log_prior_shift: subtracted after that, ``[K]``; see ``training.batches``.
        weights: of the members in the mean of probabilities.
        prior: share of each class in the training data, ``[K]``.
        tau: exponent of the prior in the decision rule.
        threshold: malignancy probability from which the flag says malignant.
    """

    temperatures: tuple[float, ...]
    log_prior_shift: tuple[float, ...]
    weights: tuple[float, ...]
    prior: tuple[float, ...]
    tau: float
    threshold: float

    def member_probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities ``[M, N, K]`` of each member from its logits ``[M, N, K]``."""
        return _member_probabilities(logits, self.log_prior_shift, np.array(self.temperatures))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """The ensemble's probabilities ``[N, K]``: the weighted mean over the members."""
        return _mean(self.member_probabilities(logits), self.weights)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Class index ``[N]`` that the decision rule picks: the largest p / prior ** tau."""
        return decide(probabilities, np.array(self.prior), self.tau)


def fit_calibration(
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    weights: tuple[float, ...],
    log_prior_shift: np.ndarray,
    prior: np.ndarray,
    malignant: np.ndarray,
    target_sensitivity: float,
) -> Calibration:
    """Fit temperatures, tau and threshold.

    The temperatures minimise the negative log-likelihood of the ensemble as a whole (Guo et al.,
    "On Calibration of Modern Neural Networks", ICML 2017, section 4.2, with one per member): a
    mean of separately calibrated members would be under-confident.

    Args:
        logits: ``[M, N, K]`` of the members on the validation images.
        labels: int ``[N]``.
        weights: of the members, summing to 1.
        log_prior_shift: ``[K]``, see ``training.batches.log_prior_shift``.
        prior: training prior ``[K]``.
        malignant: bool ``[K]``.
        target_sensitivity: share of malignant images that the threshold must reach.
    """

    def loss(log_temperatures: Any) -> float:
        p = _mean(_member_probabilities(logits, log_prior_shift, np.exp(log_temperatures)), weights)
        return float(-np.log(p[np.arange(len(labels)), labels] + 1e-12).mean())

    bounds = [(np.log(0.05), np.log(20.0))] * len(logits)
    fitted = minimize(loss, np.zeros(len(logits)), method="L-BFGS-B", bounds=bounds)
    temperatures = np.exp(fitted.x)
    p = _mean(_member_probabilities(logits, log_prior_shift, temperatures), weights)
    # On equal scores the smaller tau wins: it departs less from the most probable class.
    tau = max(TAU_GRID, key=lambda t: (round(balanced_accuracy_score(labels, decide(p, prior, t)), 6), -t))
    return Calibration(
        log_prior_shift=tuple(float(v) for v in log_prior_shift),
        temperatures=tuple(float(v) for v in temperatures),
        weights=tuple(float(v) for v in weights),
        prior=tuple(float(v) for v in prior),
        tau=float(tau),
        threshold=fit_threshold(p[:, malignant].sum(axis=1), malignant[labels], target_sensitivity),
    )


def fit_threshold(scores: np.ndarray, positive: np.ndarray, target_sensitivity: float) -> float:
    """The largest threshold at which the share ``scores >= threshold`` of positives is reached.

    Rounded down to four decimals, for people to read; rounding down can only raise sensitivity.
    """
    ordered = np.sort(scores[positive])[::-1]
    needed = int(np.ceil(target_sensitivity * len(ordered) - 1e-9))
    return float(np.floor(ordered[max(needed, 1) - 1] * 1e4) / 1e4)


def decide(probabilities: np.ndarray, prior: np.ndarray, tau: float) -> np.ndarray:
    """Class index ``[N]`` with the largest p / prior ** tau."""
    return np.asarray(np.argmax(probabilities / prior**tau, axis=1))


def _member_probabilities(logits: np.ndarray, shift: Any, temperatures: np.ndarray) -> np.ndarray:
    # The temperature first: it makes z / T the logarithm of what the network really learnt, which is
    # p(y|x) under the prior that it saw, and only of that can the prior be taken out.
    return np.asarray(softmax(logits / temperatures[:, None, None] - np.asarray(shift), axis=2))


def _mean(probabilities: np.ndarray, weights: tuple[float, ...]) -> np.ndarray:
    return np.asarray(np.einsum("m,mnk->nk", np.array(weights), probabilities))
