"""Metrics of runs with intervals, and paired differences between runs.

All runs of a group are resampled with the same lesions. The interval of a difference is therefore narrower
than the intervals of the two runs suggest, because lesions that are easy or hard for both cancel out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from training.evaluation.comparison.runs import ComparedRun, Group
from training.metrics.bootstrap import interval, lesion_weights
from training.metrics.scores import Predictions, scores, weighted_scores, with_intervals

COMPARED = ("balanced_accuracy", "accuracy_rule", "malignancy_auc")
"""The metrics of paired differences."""


_TITLES = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy_rule": "accuracy",
    "accuracy_argmax": "accuracy (arg-max)",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "weighted_f1": "weighted F1",
    "malignancy_sensitivity": "malignancy sensitivity",
    "malignancy_specificity": "malignancy specificity",
    "malignancy_auc": "malignancy AUC",
    "ece": "ECE",
    "log_loss": "log loss",
}


def titles(codes: Sequence[str]) -> dict[str, str]:
    """Return the titles of the table's metrics, by their names in ``scores``."""
    return _TITLES | {f"f1_{code}": f"F1 {code}" for code in codes}


@dataclass(frozen=True)
class Scored:
    """The metrics of a run or of one of its members.

    Attributes:
        run: the run.
        member: the member's name, or None for the ensemble.
        metrics: ``{"value", "low", "high"}`` by name, without undefined metrics.
        resampled: the metrics ``[B]`` on the B resamples, by name.
    """

    run: ComparedRun
    member: str | None
    metrics: dict[str, dict[str, float]]
    resampled: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        """Name of the run, followed by that of the member."""
        return self.run.name if self.member is None else f"{self.run.name} · {self.member}"


@dataclass(frozen=True)
class Difference:
    """The metrics of ``first`` minus those of ``second``, as ``{"value", "low", "high"}`` by name."""

    first: str
    second: str
    metrics: dict[str, dict[str, float]]

    def excludes_zero(self, name: str) -> bool:
        """Whether the 95 % interval excludes 0."""
        metric = self.metrics[name]
        return metric["low"] > 0 or metric["high"] < 0


def score_group(group: Group, *, resamples: int = 1000, seed: int = 0) -> list[Scored]:
    """Score every run of ``group``, each followed by its members if it has several.

    Args:
        group: runs with the same test images.
        resamples: number of bootstrap resamples.
        seed: seed of the resamples, which are the same for all runs and members.
    """
    weights = lesion_weights(group.truth.labels, group.truth.lesions, resamples=resamples, seed=seed)
    scored = []
    for run in group:
        members = run.member_predictions if len(run.members) > 1 else {}
        for name, predictions in ((None, run.predictions), *members.items()):
            scored.append(_score(run, name, predictions, weights))
    return scored


def differences(scored: Iterable[Scored], baseline: ComparedRun | None = None) -> list[Difference]:
    """Return the differences of all pairs of runs, or of each run and ``baseline``, without members.

    Args:
        scored: the result of ``score_group``.
        baseline: the run with which all others are compared; without it in ``scored``, there are no pairs.
    """
    runs = [row for row in scored if row.member is None]
    pairs = list(combinations(runs, 2))
    if baseline is not None:
        reference = [row for row in runs if row.run is baseline]
        pairs = [(row, reference[0]) for row in runs if reference and row.run is not baseline]
    return [_difference(first, second) for first, second in pairs]


def _score(run: ComparedRun, member: str | None, predictions: Predictions, weights: np.ndarray) -> Scored:
    wanted = titles(predictions.codes)
    resampled = weighted_scores(predictions, weights)
    values = scores(predictions)
    defined = {name: values[name] for name in wanted if name in values}
    return Scored(run, member, with_intervals(predictions, defined, resampled), resampled)


def _difference(first: Scored, second: Scored) -> Difference:
    return Difference(
        first.name,
        second.name,
        {
            name: interval(
                first.metrics[name]["value"] - second.metrics[name]["value"],
                first.resampled[name] - second.resampled[name],
            )
            for name in COMPARED
            if name in first.metrics and name in second.metrics
        },
    )
