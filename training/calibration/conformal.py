"""Prediction sets: the classes that cannot be ruled out, by split conformal prediction.

Each class has its own threshold, fitted on the validation part. The score of a class is 1 − p (Sadinle, Lei
and Wasserman, "Least ambiguous set-valued classifiers with bounded error levels", JASA 114, 2019), and its
quantile is conditional on the class (Vovk, "Conditional validity of inductive conformal predictors", ACML
2012). One threshold for all classes gives smaller sets, but covers naevi at the expense of rare classes:
cross-fitted on the validation part of the first model at 0.90, it covered 0.68 of melanomas and 0.48 of
akiec, against 0.90 each with one threshold per class.

Two classes belong to every set: the label, which the decision rule selects, and the most probable class. The
thresholds take this into account: these classes get the score 0, as if their probability were 1. Otherwise
the sets would be larger than needed for the coverage. The resulting sets are still nested, so the conformal
quantile remains valid (Gupta, Kuchibhotla and Ramdas, "Nested conformal prediction and quantile out-of-bag
ensemble methods", Pattern Recognition 127, 2022).

In theory, the sets of new images from the same distribution contain the true class with at least the share
``coverage``, on average over validation parts. For one validation part with n images of the class, the
coverage has a standard deviation of about 0.02 at n = 160 and 0.07 at n = 17. The theory requires a part on
which nothing else was fitted. Here, the validation part also selected the epochs and fitted the temperatures,
so the coverage is not guaranteed.
"""

import numpy as np

from models.errors import DermaserveError
from training.metrics.bootstrap import lesion_weights, mean_interval
from training.metrics.scores import Predictions


def fit_prediction_sets(
    probabilities: np.ndarray, labels: np.ndarray, decided: np.ndarray, coverage: float
) -> np.ndarray:
    """Fit the thresholds ``[K]``: a class is in the set if its probability reaches its threshold.

    A class's threshold is the largest for which ``prediction_sets`` covers ``⌈(n + 1) · coverage⌉`` of its n
    images. If this number exceeds n, which at 0.90 means 8 images or fewer, the threshold is 0 and the class
    is in every set. If enough images have the class as label or as most probable class, the threshold is 1
    and the class is in no other set. Thresholds are rounded down to six decimals, so that float32 rounding
    in the graph does not exclude the image that determines the threshold.

    Args:
        probabilities: float ``[N, K]`` on the validation part.
        labels: int ``[N]``, the true class.
        decided: int ``[N]``, the class that the decision rule selects.
        coverage: target share of each class's images whose set contains the class.

    Raises:
        DermaserveError: ``coverage`` is not between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise DermaserveError(f"coverage: expected a share above 0 and below 1, got {coverage:g}")
    scores = np.where(_always_included(probabilities, decided), 1.0, probabilities)
    thresholds = np.zeros(probabilities.shape[1])
    for c in range(len(thresholds)):
        descending = np.sort(scores[labels == c, c])[::-1]
        needed = int(np.ceil((len(descending) + 1) * coverage - 1e-9))
        if needed <= len(descending):
            thresholds[c] = np.floor(descending[needed - 1] * 1e6) / 1e6
    return thresholds


def prediction_sets(probabilities: np.ndarray, thresholds: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """Return whether each class is in each image's set, bool ``[N, K]``.

    A set without the label or without the most probable class would confuse its reader, so both always
    belong.

    Args:
        probabilities: float ``[N, K]``.
        thresholds: float ``[K]``.
        decided: int ``[N]``, the class that the decision rule selects.
    """
    return np.asarray((probabilities >= thresholds) | _always_included(probabilities, decided))


def _always_included(probabilities: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """Return whether each class belongs to each set regardless of its threshold, bool ``[N, K]``."""
    classes = np.arange(probabilities.shape[1])
    most_probable = probabilities.argmax(axis=1)
    return np.asarray((classes == decided[:, None]) | (classes == most_probable[:, None]))


def measure_prediction_sets(
    predictions: Predictions, thresholds: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, dict[str, float]]]:
    """Return ``measure_sets`` of the sets that ``thresholds`` ``[K]`` give for ``predictions``."""
    inside = prediction_sets(predictions.probabilities, thresholds, predictions.decided)
    return measure_sets(predictions, inside, resamples=resamples, seed=seed)


def measure_sets(
    predictions: Predictions, inside: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, dict[str, float]]]:
    """Measure coverage and size of the sets ``inside``, bool ``[N, K]``, with 95 % intervals over lesions.

    Returns:
        ``measured``: the share of images whose set contains their true class; ``size``: the mean number of
        classes in a set. Each maps ``"overall"`` and the code of each class with images to
        ``{"value", "low", "high"}``.
    """
    labels = predictions.labels
    covered, size = inside[np.arange(len(labels)), labels], inside.sum(axis=1)
    weights = lesion_weights(labels, predictions.lesions, resamples=resamples, seed=seed)
    images_of = {"overall": np.arange(len(labels))}
    images_of |= {code: np.flatnonzero(labels == c) for c, code in enumerate(predictions.codes)}
    return {
        name: {
            group: mean_interval(
                values[images],
                weights[:, images],
                lesions=len(np.unique(predictions.lesions[images])) if name == "measured" else None,
            )
            for group, images in images_of.items()
            if len(images)
        }
        for name, values in (("measured", covered), ("size", size))
    }


def cross_fitted_sets(
    predictions: Predictions, coverage: float, *, folds: int = 10, seed: int = 0
) -> np.ndarray:
    """Return sets, bool ``[N, K]``, for each fold with thresholds fitted on the other folds.

    This estimates the coverage on new data without the test part. Lesions are assigned to the folds within
    their class, so a class with enough lesions is in every fold.

    Raises:
        DermaserveError: ``coverage`` is not between 0 and 1.
    """
    fold = _folds(predictions.labels, predictions.lesions, folds, np.random.default_rng(seed))
    inside = np.zeros(predictions.probabilities.shape, bool)
    for current in range(folds):
        held_out, rest = predictions.take(fold == current), predictions.take(fold != current)
        thresholds = fit_prediction_sets(rest.probabilities, rest.labels, rest.decided, coverage)
        inside[fold == current] = prediction_sets(held_out.probabilities, thresholds, held_out.decided)
    return inside


def _folds(labels: np.ndarray, lesions: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    _, first, lesion_of = np.unique(lesions, return_index=True, return_inverse=True)
    fold = np.empty(len(first), int)
    for c in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels[first] == c))
        fold[mine] = np.arange(len(mine)) % folds
    return np.asarray(fold[lesion_of])
