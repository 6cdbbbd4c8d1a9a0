"""Metrics of a cross-validation, from the pooled test predictions of all folds.

Each image is predicted once, by the model that saw neither the image nor its lesion, with the temperatures,
decision rule and malignancy threshold of its fold.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.markdown import format_metric
from training.metrics.bootstrap import lesion_weights, mean_interval
from training.metrics.predictions import PredictionsError, SavedPredictions, save_predictions
from training.metrics.scores import bootstrap, scores
from training.run import write_json

PREDICTIONS_NAME = "out_of_fold.npz"
METRICS_NAME = "metrics.json"
_SHOWN = (
    "balanced_accuracy",
    "balanced_accuracy_argmax",
    "accuracy_rule",
    "accuracy_argmax",
    "macro_f1",
    "macro_auc",
    "malignancy_sensitivity",
    "malignancy_specificity",
    "malignancy_auc",
    "ece",
)


def pool(folds: Sequence[SavedPredictions]) -> SavedPredictions:
    """Concatenate the folds' test predictions, sorted by image_id; the threshold is the folds' median.

    Raises:
        PredictionsError: the folds differ in classes or members, or an image is in two folds.
    """
    first = folds[0]
    for fold in folds[1:]:
        if (fold.codes, fold.members) != (first.codes, first.members):
            raise PredictionsError("the folds' classes or members differ; do they have the same recipe?")
    ids = np.concatenate([fold.image_id for fold in folds])
    order = np.argsort(ids)

    def joined(name: str, axis: int = 0) -> np.ndarray:
        return np.concatenate([getattr(fold, name) for fold in folds], axis=axis).take(order, axis=axis)

    return SavedPredictions(
        image_id=ids[order],
        lesion_id=joined("lesion_id"),
        labels=joined("labels"),
        probabilities=joined("probabilities"),
        decided=joined("decided"),
        codes=first.codes,
        malignant=first.malignant,
        threshold=float(np.median([fold.threshold for fold in folds])),
        members=first.members,
        member_probabilities=joined("member_probabilities", axis=1),
        member_decided=joined("member_decided", axis=1),
    )


def write_out_of_fold(
    folder: Path, folds: Sequence[SavedPredictions], *, resamples: int = 1000
) -> dict[str, Any]:
    """Write the pooled predictions to ``out_of_fold.npz`` and their metrics to ``metrics.json``.

    Args:
        folder: folder for both files.
        folds: the test predictions of each fold.
        resamples: number of bootstrap resamples.

    Returns:
        The contents of ``metrics.json``. ``out_of_fold``: pooled metrics with intervals; ``folds``: metrics
        of each fold; ``members``: pooled metrics of each member; ``thresholds``: malignancy threshold of
        each fold.
    """
    pooled = pool(folds)
    save_predictions(folder / PREDICTIONS_NAME, pooled.image_id.tolist(), pooled.ensemble, pooled.by_member)
    metrics = {
        "out_of_fold": bootstrap(pooled.ensemble, resamples=resamples)
        | _malignancy(folds, pooled, resamples=resamples),
        "folds": [scores(fold.ensemble) for fold in folds],
        "members": {name: scores(member) for name, member in pooled.by_member.items()},
        "thresholds": [fold.threshold for fold in folds],
    }
    write_json(folder / METRICS_NAME, metrics)
    return metrics


def table(metrics: dict[str, Any]) -> str:
    """Return the main metrics as text: pooled with intervals, and mean ± deviation over the folds."""
    lines = [f"{'':26} {'out of fold':22} mean of folds ± standard deviation"]
    for name in _SHOWN:
        values = [fold[name] for fold in metrics["folds"] if name in fold]
        if name in metrics["out_of_fold"] and len(values) > 1:
            lines.append(
                f"{name:26} {format_metric(metrics['out_of_fold'][name])}   "
                f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
            )
    return "\n".join(lines)


def _malignancy(
    folds: Sequence[SavedPredictions], pooled: SavedPredictions, *, resamples: int
) -> dict[str, dict[str, float]]:
    """Return sensitivity and specificity, with each image flagged by the threshold of its fold."""
    flagged_of: dict[str, bool] = {}
    for fold in folds:
        flagged = fold.probabilities[:, fold.malignant].sum(axis=1) >= fold.threshold
        flagged_of.update(zip(fold.image_id.tolist(), flagged.tolist(), strict=True))
    flags = np.array([flagged_of[image_id] for image_id in pooled.image_id.tolist()])
    is_malignant = pooled.malignant[pooled.labels]
    weights = lesion_weights(pooled.labels, pooled.lesion_id, resamples=resamples)
    return {
        name: mean_interval(correct[chosen], weights[:, chosen], lesions=len(set(pooled.lesion_id[chosen])))
        for name, chosen, correct in (
            ("malignancy_sensitivity", is_malignant, flags),
            ("malignancy_specificity", ~is_malignant, ~flags),
        )
        if chosen.any()
    }
