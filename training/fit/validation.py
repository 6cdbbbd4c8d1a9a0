"""Validation metrics of one network, and the metric that selects the best epoch."""

from collections.abc import Mapping

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from training.recipe import Recipe


def validation_metrics(
    logits: np.ndarray, labels: np.ndarray, shift: np.ndarray, log_prior: np.ndarray
) -> dict[str, float]:
    """Compute ``loss``, ``macro_loss``, ``accuracy`` and ``balanced_accuracy``.

    ``loss`` is the cross entropy at the prevalence of the training data, where two thirds of the images are
    naevi. ``macro_loss`` is the mean over the classes of the cross entropy at equal prevalence, so that rare
    classes count as much as frequent ones. Both are minima over the temperature: each network is calibrated
    after training, so its confidence must not influence the selection. The accuracies are those of the most
    probable class at the temperature of ``loss``.

    Args:
        logits: float ``[N, K]``.
        labels: int ``[N]``, the true class.
        shift: ``[K]``, see ``training.fit.batches.log_prior_shift``.
        log_prior: ``[K]``, logarithm of each class's share in the training data.
    """
    classes = logits.shape[1]
    counts = np.bincount(labels, minlength=classes)
    weights = 1.0 / (np.count_nonzero(counts) * counts[labels])
    loss, temperature = _best_cross_entropy(logits, labels, shift, np.full(len(labels), 1 / len(labels)))
    macro_loss, _ = _best_cross_entropy(logits, labels, shift + log_prior, weights)
    hits = (logits / temperature - shift).argmax(axis=1) == labels
    recalls = [hits[labels == code].mean() for code in range(classes) if (labels == code).any()]
    return {
        "loss": loss,
        "macro_loss": macro_loss,
        "accuracy": float(hits.mean()),
        "balanced_accuracy": float(np.mean(recalls)),
    }


def monitored(recipe: Recipe, metrics: Mapping[str, float]) -> float:
    """Return the metric that selects the best epoch, negated if larger is better."""
    value = metrics[recipe.monitor]
    return -value if recipe.monitor in ("accuracy", "balanced_accuracy") else value


def _best_cross_entropy(
    logits: np.ndarray, labels: np.ndarray, shift: np.ndarray, weights: np.ndarray
) -> tuple[float, float]:
    """Return the smallest weighted cross entropy over all temperatures, and its temperature."""

    def cross_entropy(log_temperature: float) -> float:
        log_p = log_softmax(logits / np.exp(log_temperature) - shift, axis=1)
        return float(-(weights * log_p[np.arange(len(labels)), labels]).sum())

    fitted = minimize_scalar(cross_entropy, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(fitted.fun), float(np.exp(fitted.x))
