"""Prediction sets: the classes that cannot be ruled out, with a coverage measured on the test part.

Split conformal prediction with one threshold per class, fitted on validation alone. The score of a
class is 1 − p (Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers with bounded error
levels", JASA 114, 2019) and each class has its own quantile (class-conditional or Mondrian; Vovk,
"Conditional validity of inductive conformal predictors", ACML 2012). One threshold for all classes
gives smaller sets, but reaches its coverage on naevi at the expense of the rare classes: cross-fitted
within the validation part of the first model, at 0.90 it held 0.68 of melanomas and 0.48 of akiec,
against 0.90 each with one threshold per class.

Two classes belong to every set, whatever their probability: the label, which the decision rule picks,
and the most probable class. The thresholds are fitted for these sets, not for the sets without the two:
a class that belongs anyway has the score 0, as if its probability were 1. The sets of a smaller
threshold still hold those of a larger one, and of such a nested family the conformal quantile covers
like any other (Gupta, Kuchibhotla and Ramdas, "Nested conformal prediction and quantile out-of-bag
ensemble methods", Pattern Recognition 127, 2022). Thresholds that do not know of the two classes would
cover more than was asked for, with larger sets.

The theory: of new images of a class, drawn like its n validation images, the set holds the class in at
least the share ``coverage`` on average over such validation parts. For one given part the share spreads
around that, by about 0.02 at n = 160 and 0.07 at n = 17. It holds for a part that nothing else was fitted on.
Here the validation part also chose the epochs and fitted the temperatures, so the coverage is no guarantee.
"""

import numpy as np

from models.errors import DermaserveError
from training.metrics.bootstrap import lesion_weights, mean_interval
from training.metrics.scores import Predictions


def fit_prediction_sets(
    probabilities: np.ndarray, labels: np.ndarray, decided: np.ndarray, coverage: float
) -> np.ndarray:
    """Thresholds ``[K]``: class c is in the set where its probability is at least threshold c.

    A threshold is the largest at which ``⌈(n + 1) · coverage⌉`` of the class's n images are
    covered by ``prediction_sets``. Where that is more than n, at 0.90 with 8 images or fewer, no
    threshold but 0 can promise that: such a class is always in the set. Where so many have the class
    as label or as most probable class, the threshold is 1: it is in no other set. Rounded down to six
    decimals, so that the last digits of a float32 graph do not exclude the image that set the
    threshold.

    Args:
        probabilities: float ``[N, K]`` on validation.
        labels: int ``[N]``.
        decided: int ``[N]``, the decision rule's class.
        coverage: share of the images of each class whose set must hold it, above 0 and below 1.

    Raises:
        DermaserveError: ``coverage`` is not above 0 and below 1.
    """
    if not 0 < coverage < 1:
        raise DermaserveError(f"coverage: expected a share above 0 and below 1, got {coverage:g}")
    scores = np.where(_always(probabilities, decided), 1.0, probabilities)
    thresholds = np.zeros(probabilities.shape[1])
    for c in range(len(thresholds)):
        falling = np.sort(scores[labels == c, c])[::-1]
        needed = int(np.ceil((len(falling) + 1) * coverage - 1e-9))
        if needed <= len(falling):
            thresholds[c] = np.floor(falling[needed - 1] * 1e6) / 1e6
    return thresholds


def prediction_sets(probabilities: np.ndarray, thresholds: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """Which classes are in each image's set, bool ``[N, K]``.

    Those that reach their thresholds ``[K]``, the class ``decided`` ``[N]`` and the most probable one: a
    reader would not understand a set that lacks the answer or what is likeliest.
    """
    return np.asarray((probabilities >= thresholds) | _always(probabilities, decided))


def _always(probabilities: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """Bool ``[N, K]``: the classes that belong to a set whatever the thresholds are."""
    classes = np.arange(probabilities.shape[1])
    most_probable = probabilities.argmax(axis=1)
    return np.asarray((classes == decided[:, None]) | (classes == most_probable[:, None]))


def measure_prediction_sets(
    predictions: Predictions, thresholds: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, dict[str, float]]]:
    """What ``measure_sets`` says of the sets that ``thresholds`` give for ``predictions``."""
    inside = prediction_sets(predictions.probabilities, thresholds, predictions.decided)
    return measure_sets(predictions, inside, resamples=resamples, seed=seed)


def measure_sets(
    predictions: Predictions, inside: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, dict[str, float]]]:
    """Coverage and size of the sets ``inside`` ``[N, K]`` with 95 % intervals over lesions.

    Returns:
        ``measured``: share of images whose set holds their class; ``size``: mean number of classes
        in a set. Each by ``"overall"`` and every class code that has images, as ``{"value", "low",
        "high"}``.
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
    """Sets ``[N, K]`` on the part that calibrates them, each fold by thresholds from the others.

    What the sets cover on new data, judged without spending the test part. Lesions are dealt to the
    folds within their class, so that no fold lacks a class that has as many lesions.

    Raises:
        DermaserveError: as ``fit_prediction_sets``.
    """
    fold = _folds(predictions.labels, predictions.lesions, folds, np.random.default_rng(seed))
    inside = np.zeros(predictions.probabilities.shape, bool)
    for current in range(folds):
        held = fold == current
        thresholds = fit_prediction_sets(
            predictions.probabilities[~held],
            predictions.labels[~held],
            predictions.decided[~held],
            coverage,
        )
        inside[held] = prediction_sets(predictions.probabilities[held], thresholds, predictions.decided[held])
    return inside


def _folds(labels: np.ndarray, lesions: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    _, first, lesion_of = np.unique(lesions, return_index=True, return_inverse=True)
    fold = np.empty(len(first), int)
    for c in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels[first] == c))
        fold[mine] = np.arange(len(mine)) % folds
    return np.asarray(fold[lesion_of])
