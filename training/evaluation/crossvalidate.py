"""Cross-validation's figures: the test answers of all folds put together, each image answered once.

The image's answer comes from the model that saw neither it nor its lesion, at that fold's own
temperatures, decision rule and malignancy threshold.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
    """The folds' test answers as one, sorted by image; the threshold is the median of the folds'.

    Raises:
        PredictionsError: the folds differ in classes or members, or an image is in two of them.
    """
    first = folds[0]
    for fold in folds[1:]:
        if (fold.codes, fold.members) != (first.codes, first.members):
            raise PredictionsError("the folds' classes or members differ; were they trained by one recipe?")
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
    """Pool the folds' answers into ``out_of_fold.npz`` and score them into ``metrics.json``.

    Args:
        folder: receives both files.
        folds: the test predictions of each.
        resamples: of the bootstrap.

    Returns:
        ``out_of_fold``: every figure with its interval; ``folds``: the figures of each fold alone;
        ``members``: those of each member, pooled; ``thresholds``: of malignancy, by fold.
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
    """The headlines: pooled with their intervals, and mean and standard deviation over the folds."""
    lines = [f"{'':26} {'out of fold':22} mean of folds ± standard deviation"]
    for name in _SHOWN:
        values = [fold[name] for fold in metrics["folds"] if name in fold]
        if name in metrics["out_of_fold"] and len(values) > 1:
            figure = metrics["out_of_fold"][name]
            lines.append(
                f"{name:26} {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]   "
                f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
            )
    return "\n".join(lines)


def _malignancy(
    folds: Sequence[SavedPredictions], pooled: SavedPredictions, *, resamples: int
) -> dict[str, dict[str, float]]:
    """Sensitivity and specificity, each image against the threshold of its own fold."""
    flagged_of: dict[str, bool] = {}
    for fold in folds:
        flagged = fold.probabilities[:, fold.malignant].sum(axis=1) >= fold.threshold
        flagged_of.update(zip(fold.image_id.tolist(), flagged.tolist(), strict=True))
    flags = np.array([flagged_of[image_id] for image_id in pooled.image_id.tolist()])
    is_malignant = pooled.malignant[pooled.labels]
    weights = lesion_weights(pooled.labels, pooled.lesion_id, resamples=resamples)
    return {
        name: mean_interval(right[of], weights[:, of], lesions=len(np.unique(pooled.lesion_id[of])))
        for name, of, right in (
            ("malignancy_sensitivity", is_malignant, flags),
            ("malignancy_specificity", ~is_malignant, ~flags),
        )
        if of.any()
    }
