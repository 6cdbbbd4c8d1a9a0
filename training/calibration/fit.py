"""Fits everything between logits and decisions, on validation data only.

It fits, in this order: the weights of the mean, if the recipe does not fix them; one temperature per member,
so that the ensemble's probabilities are calibrated; the decision rule's tau; the malignancy threshold.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import softmax

from training.calibration.combination import TINY, Combination
from training.metrics.bootstrap import lesion_weights

TAU_GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Candidates for tau. The grid is coarse to avoid overfitting the validation part."""

_WEIGHT_STEPS = 10
"""Ensemble weights are multiples of 1 / 10, for the same reason."""


@dataclass(frozen=True)
class Calibration:
    """Parameters that turn the members' logits into probabilities and decisions.

    Attributes:
        combination: combines the members' probabilities.
        temperatures: one per member; the logits are divided by it.
        log_prior_shifts: ``[K_m]`` per member, subtracted from the divided logits; see
            ``training.fit.batches``.
        prior: ``[K]``, share of each class in the training data.
        tau: exponent of the prior in the decision rule.
        threshold: malignancy probability from which an image is flagged.
    """

    combination: Combination
    temperatures: tuple[float, ...]
    log_prior_shifts: tuple[tuple[float, ...], ...]
    prior: tuple[float, ...]
    tau: float
    threshold: float

    def member_probabilities(self, logits: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the calibrated probabilities ``[N, K_m]`` of each member from its logits ``[N, K_m]``."""
        return _member_probabilities(logits, self.log_prior_shifts, self.temperatures)

    def probabilities(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """Return the ensemble's probabilities ``[N, K]``."""
        return self.combination(self.member_probabilities(logits))

    def disagreement(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """Return the disagreement of the members, ``[N]``; see ``Combination.disagreement``."""
        return self.combination.disagreement(self.member_probabilities(logits))

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the class index ``[N]`` that the decision rule selects: the largest p / prior ** tau."""
        return decide(probabilities, np.array(self.prior), self.tau)


def fit_calibration(
    logits: Sequence[np.ndarray],
    labels: np.ndarray,
    lesions: np.ndarray,
    *,
    combination: Combination,
    weighting: Literal["fixed", "accuracy", "grid"] = "fixed",
    log_prior_shifts: Sequence[np.ndarray],
    prior: np.ndarray,
    malignant: np.ndarray,
    target_sensitivity: float,
) -> Calibration:
    """Fit weights, temperatures, tau and threshold.

    The temperatures minimise the negative log-likelihood of the ensemble (Guo et al., "On Calibration of
    Modern Neural Networks", ICML 2017, section 4.2, with one temperature per member). A mean of separately
    calibrated members would be under-confident.

    Args:
        logits: ``[N, K_m]`` of each member on the validation images.
        labels: int ``[N]``, the true class.
        lesions: str ``[N]``, the lesion of each image.
        combination: the combination that the recipe states.
        weighting: ``"fixed"`` keeps its weights, ``"accuracy"`` makes them proportional to each member's
            accuracy, ``"grid"`` searches a coarse grid.
        log_prior_shifts: ``[K_m]`` per member, see ``training.fit.batches.log_prior_shift``.
        prior: ``[K]``, share of each class in the training data.
        malignant: bool ``[K]``.
        target_sensitivity: share of malignant images that the threshold must flag.
    """
    shifts = tuple(tuple(float(v) for v in shift) for shift in log_prior_shifts)
    temperatures = _fit_temperatures(logits, labels, shifts, combination)
    if combination.kind == "mean" and weighting != "fixed":
        members = _member_probabilities(logits, shifts, temperatures)
        weights = _accuracies(members, labels) if weighting == "accuracy" else _best_of_grid(members, labels)
        combination = replace(combination, weights=weights)
        temperatures = _fit_temperatures(logits, labels, shifts, combination)
    if combination.kind == "vote":
        members = _member_probabilities(logits, shifts, temperatures)
        combination = replace(combination, smoothing=_fit_smoothing(combination, members, labels))
    p = combination(_member_probabilities(logits, shifts, temperatures))
    # A vote needs no rule: it already is a decision.
    tau = 0.0 if combination.kind == "vote" else _choose_tau(p, labels, lesions, prior)
    return Calibration(
        combination=combination,
        temperatures=temperatures,
        log_prior_shifts=shifts,
        prior=tuple(float(v) for v in prior),
        tau=tau,
        threshold=fit_threshold(p[:, malignant].sum(axis=1), malignant[labels], target_sensitivity),
    )


def fit_threshold(scores: np.ndarray, positive: np.ndarray, target_sensitivity: float) -> float:
    """Return the largest threshold that reaches the target sensitivity.

    It is rounded down to four decimals to be readable; this cannot lower the sensitivity.

    Args:
        scores: float ``[N]``; ``scores >= threshold`` are flagged.
        positive: bool ``[N]``, with at least one True.
        target_sensitivity: share of the positives that must be flagged.
    """
    ordered = np.sort(scores[positive])[::-1]
    needed = int(np.ceil(target_sensitivity * len(ordered) - 1e-9))
    return float(np.floor(ordered[max(needed, 1) - 1] * 1e4) / 1e4)


def _choose_tau(p: np.ndarray, labels: np.ndarray, lesions: np.ndarray, prior: np.ndarray) -> float:
    """Return 1, or a tau with a balanced accuracy that is higher with its whole 95 % interval.

    For calibrated probabilities, tau = 1 maximises the expected balanced accuracy. The best of several on one
    validation part may be the best by chance, so another must be better on lesions drawn again.
    """
    weights = lesion_weights(labels, lesions)
    resampled, found = {}, {}
    for tau in TAU_GRID:
        right = decide(p, prior, tau) == labels
        classes = [labels == c for c in np.unique(labels)]
        resampled[tau] = np.mean(
            [weights[:, c] @ right[c] / weights[:, c].sum(axis=1) for c in classes], axis=0
        )
        found[tau] = float(np.mean([right[c].mean() for c in classes]))
    best = max(TAU_GRID, key=found.__getitem__)
    return best if np.percentile(resampled[best] - resampled[1.0], 2.5) > 0 else 1.0


def decide(probabilities: np.ndarray, prior: np.ndarray, tau: float) -> np.ndarray:
    """Return the class index ``[N]`` with the largest p / prior ** tau (see ``DecisionRule``)."""
    return np.asarray(np.argmax(probabilities / prior**tau, axis=1))


def _member_probabilities(
    logits: Sequence[np.ndarray], shifts: Sequence[Sequence[float]], temperatures: Sequence[float]
) -> list[np.ndarray]:
    # The temperature comes first: z / T is then the calibrated log p(y|x) under the prior seen in training,
    # from which the shift removes that prior.
    return [
        np.asarray(softmax(z / temperature - np.asarray(shift), axis=1))
        for z, shift, temperature in zip(logits, shifts, temperatures, strict=True)
    ]


def _fit_temperatures(
    logits: Sequence[np.ndarray],
    labels: np.ndarray,
    shifts: Sequence[Sequence[float]],
    combination: Combination,
) -> tuple[float, ...]:
    if combination.kind == "vote":  # the vote does not depend on the temperatures
        combination = replace(combination, kind="mean")

    def loss(log_temperatures: Any) -> float:
        return _log_loss(combination(_member_probabilities(logits, shifts, np.exp(log_temperatures))), labels)

    bounds = [(np.log(0.05), np.log(20.0))] * len(logits)
    fitted = minimize(loss, np.zeros(len(logits)), method="L-BFGS-B", bounds=bounds)
    return tuple(float(v) for v in np.exp(fitted.x))


def member_temperatures(
    logits: Sequence[np.ndarray], labels: np.ndarray, log_prior_shifts: Sequence[Sequence[float]]
) -> tuple[float, ...]:
    """Fit the temperature of each member alone, for its comparison with the ensemble.

    With the ensemble's temperatures, which calibrate the mean, each member alone is over-confident.

    Args:
        logits: ``[N, K]`` of each member on the validation images.
        labels: int ``[N]``.
        log_prior_shifts: ``[K]`` per member.
    """
    alone = Combination("mean", (1.0,), ((),))
    return tuple(
        _fit_temperatures([z], labels, [shift], alone)[0]
        for z, shift in zip(logits, log_prior_shifts, strict=True)
    )


def _accuracies(members: Sequence[np.ndarray], labels: np.ndarray) -> tuple[float, ...]:
    accuracy = np.array([(p.argmax(axis=1) == labels).mean() for p in members])
    return tuple(float(v) for v in accuracy / accuracy.sum())


def _best_of_grid(members: Sequence[np.ndarray], labels: np.ndarray) -> tuple[float, ...]:
    """Return the weights on the grid with the smallest negative log-likelihood."""
    steps = range(_WEIGHT_STEPS + 1)
    grid = (g for g in itertools.product(steps, repeat=len(members)) if sum(g) == _WEIGHT_STEPS)
    return min(
        (tuple(step / _WEIGHT_STEPS for step in point) for point in grid),
        key=lambda point: _log_loss(sum(w * p for w, p in zip(point, members, strict=True)), labels),
    )


def _fit_smoothing(combination: Combination, members: Sequence[np.ndarray], labels: np.ndarray) -> float:
    def loss(smoothing: float) -> float:
        return _log_loss(replace(combination, smoothing=float(smoothing))(members), labels)

    return float(minimize_scalar(loss, bounds=(1e-3, 0.499), method="bounded").x)


def _log_loss(probabilities: Any, labels: np.ndarray) -> float:
    return float(-np.log(probabilities[np.arange(len(labels)), labels] + TINY).mean())
