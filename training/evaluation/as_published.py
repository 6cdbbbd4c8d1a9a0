"""Scores a model as the published systems score theirs, for a table beside their best metrics.

The label is the most probable class. Benign or malignant is decided at a probability of 0.5; with seven
classes, mel and bcc are malignant, as in the report of ``training.recipes.benign_malignant``. All published
systems split by image, so only a run on such a split is comparable with them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from training.catalogue import PRIOR_SYSTEMS
from training.data.dataset import CODES
from training.data.split import SplitBy
from training.markdown import format_metric, table
from training.metrics.scores import Predictions, bootstrap
from training.recipes.entry import Entry

MALIGNANT = ("mel", "bcc")
"""The malignant classes of the published task; the service counts akiec, too."""

DIAGNOSIS = {
    "accuracy_rule": "accuracy",
    "macro_precision": "macro_precision",
    "macro_recall": "macro_recall",
    "macro_f1": "macro_f1",
    "weighted_f1": "weighted_f1",
    **{f"f1_{code}": f"f1_{code}" for code in CODES},
}
MALIGNANCY = {
    "accuracy_rule": "accuracy",
    "precision_malignant": "precision",
    "recall_malignant": "recall",
}
"""The metrics of each task: name in ``training.metrics.scores`` to name here."""

_AVERAGES = {"f1": "macro_f1", "precision": "macro_precision", "recall": "macro_recall"}
"""Published metrics of seven classes whose kind of average is not stated are taken as macro averages."""

_SPLIT_BY: dict[SplitBy, str] = {
    "lesion": "The published systems split by image, so their metrics are too high.",
    "image": "**The split is by image, as theirs are: images of one lesion are in several parts, so all "
    "metrics are too high.**",
}


def score_as_published(predictions: Predictions, *, resamples: int = 1000) -> dict[str, Any]:
    """Return the metrics of ``"diagnosis"`` and ``"malignancy"``, each as ``{"value", "low", "high"}``.

    A model of two classes has only ``"malignancy"``, in which akiec is malignant.
    """
    found: dict[str, Any] = {}
    malignant = predictions.malignant
    if predictions.codes == CODES:
        argmax = replace(predictions, decided=predictions.probabilities.argmax(axis=1))
        metrics = bootstrap(argmax, resamples=resamples)
        found["diagnosis"] = {ours: metrics[name] for name, ours in DIAGNOSIS.items()}
        malignant = np.isin(CODES, MALIGNANT)
    metrics = bootstrap(_two_classes(predictions, malignant), resamples=resamples)
    return found | {"malignancy": {ours: metrics[name] for name, ours in MALIGNANCY.items()}}


def _two_classes(predictions: Predictions, malignant: np.ndarray) -> Predictions:
    p = predictions.probabilities[:, malignant].sum(axis=1)
    return replace(
        predictions,
        probabilities=np.stack([1 - p, p], axis=1),
        decided=(p >= 0.5).astype(int),
        labels=malignant[predictions.labels].astype(int),
        codes=("benign", "malignant"),
        malignant=np.array([False, True]),
        threshold=0.5,
    )


def as_published_section(found: Mapping[str, Any], split_by: SplitBy) -> list[str]:
    """Return the section of a report; ``found`` is the result of ``score_as_published``."""
    return [
        "## As the published systems score",
        "",
        "Metrics of the most probable class, beside the best that each system published, on its own test "
        "part. Benign or malignant is decided at a probability of 0.5"
        + ("; mel and bcc are malignant. " if "diagnosis" in found else ". ")
        + _SPLIT_BY[split_by],
        "",
        *table(
            ("task", "metric", "here", "published", "by"),
            [
                (
                    task,
                    metric.replace("_", " ").replace("f1", "F1"),
                    format_metric(found[task][metric]),
                    *best,
                )
                for task, metric, *best in _best_published()
                if task in found
            ],
        ),
        *(_by_class(found["diagnosis"]) if "diagnosis" in found else []),
    ]


def _best_published() -> Iterator[tuple[str, str, str, str]]:
    """Yield task, metric, the best published value and its recipe, for each system and metric."""
    for module in PRIOR_SYSTEMS:
        task = module.RECIPES[0].recipe.task
        best: dict[str, tuple[float, str]] = {}
        for entry in module.RECIPES:
            for metric, value in _published(entry).items():
                if metric not in best or value > best[metric][0]:
                    best[metric] = (value, entry.recipe.name)
        for metric, (value, name) in best.items():
            yield task, metric, f"{value:g}", f"`{name}`"


def _published(entry: Entry) -> dict[str, float]:
    """Return the published metrics of all images, by the names that this module uses."""
    if entry.published is None or entry.recipe.sites:
        return {}
    seven = entry.recipe.task == "diagnosis"
    known = set((DIAGNOSIS if seven else MALIGNANCY).values())
    stated = {name: value for name, value in vars(entry.published).items() if value is not None}
    named = {_AVERAGES.get(name, name) if seven else name: value for name, value in stated.items()}
    return {name: value for name, value in named.items() if name in known}


def _by_class(found: Mapping[str, Any]) -> list[str]:
    """Return the F1 of each class, beside that of each system's best model with published ones."""
    best = []
    for module in PRIOR_SYSTEMS:
        listed = [entry for entry in module.RECIPES if entry.published and entry.published.f1_by_class]
        best += sorted(listed, key=lambda entry: entry.published.macro_f1)[-1:]
    return table(
        ("class", "F1 here", *(f"`{entry.recipe.name}`" for entry in best)),
        [
            (
                code,
                format_metric(found[f"f1_{code}"]),
                *(f"{entry.published.f1_by_class[index]:.2f}" for entry in best),
            )
            for index, code in enumerate(CODES)
        ],
    )
