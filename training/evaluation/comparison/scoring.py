"""The figures of runs with their intervals, and the differences of runs on the same images.

All runs of a group are resampled by the same draws of lesions. So the difference of two runs has
an interval of its own, in which what both find easy or hard cancels out: it is narrower than the
two intervals beside each other suggest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from training.evaluation.comparison.runs import ComparedRun, Group
from training.metrics.bootstrap import interval, lesion_weights
from training.metrics.scores import Predictions, scores, weighted_scores, with_intervals

COMPARED = ("balanced_accuracy", "accuracy_rule", "malignancy_auc")
"""The figures that pairs are compared by."""

_ROWS_AT_ONCE = 100  # resamples at once: more would only need more memory

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
    """The figures of the table, by their names in ``scores``."""
    return _TITLES | {f"f1_{code}": f"F1 {code}" for code in codes}


@dataclass(frozen=True)
class Scored:
    """One row of the table: a run, or a member of it.

    Attributes:
        run: the run.
        member: the member's name, or None for the run as a whole.
        figures: ``{"value", "low", "high"}`` by name; a figure that is not defined is left out.
        drawn: the values ``[B]`` of the B resamples, by name.
    """

    run: ComparedRun
    member: str | None
    figures: dict[str, dict[str, float]]
    drawn: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        """Of the run; a member's stands behind its run's."""
        return self.run.name if self.member is None else f"{self.run.name} · {self.member}"


@dataclass(frozen=True)
class Difference:
    """The figures of ``first`` minus those of ``second``, as ``{"value", "low", "high"}`` by name."""

    first: str
    second: str
    figures: dict[str, dict[str, float]]

    def excludes_zero(self, name: str) -> bool:
        """Whether 0 lies outside the 95 % interval."""
        figure = self.figures[name]
        return figure["low"] > 0 or figure["high"] < 0


def score_group(group: Group, *, resamples: int = 1000, seed: int = 0) -> list[Scored]:
    """Every run of ``group``, each followed by its members where it has several.

    Args:
        group: runs measured on the same images.
        resamples: of the bootstrap over lesions.
        seed: of the draws, which are the same for all rows.
    """
    weights = lesion_weights(group.truth.labels, group.truth.lesions, resamples=resamples, seed=seed)
    scored = []
    for run in group:
        members = run.member_predictions if len(run.members) > 1 else {}
        for name, predictions in ((None, run.predictions), *members.items()):
            scored.append(_score(run, name, predictions, weights))
    return scored


def differences(scored: Iterable[Scored], baseline: ComparedRun | None = None) -> list[Difference]:
    """Every pair of runs of one group, or each run against ``baseline``; members are left out.

    Args:
        scored: rows that ``score_group`` resampled together.
        baseline: the run to compare all others with; if it is not among these, there are no pairs.
    """
    runs = [row for row in scored if row.member is None]
    pairs = list(combinations(runs, 2))
    if baseline is not None:
        reference = [row for row in runs if row.run is baseline]
        pairs = [(row, reference[0]) for row in runs if reference and row.run is not baseline]
    return [_difference(first, second) for first, second in pairs]


def _score(run: ComparedRun, member: str | None, predictions: Predictions, weights: np.ndarray) -> Scored:
    wanted = titles(predictions.codes)
    parts = [
        weighted_scores(predictions, weights[start : start + _ROWS_AT_ONCE])
        for start in range(0, len(weights), _ROWS_AT_ONCE)
    ]
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in wanted}
    values = scores(predictions)
    figures = with_intervals(predictions, {name: values[name] for name in wanted if name in values}, drawn)
    return Scored(run, member, figures, drawn)


def _difference(first: Scored, second: Scored) -> Difference:
    return Difference(
        first.name,
        second.name,
        {
            name: interval(
                first.figures[name]["value"] - second.figures[name]["value"],
                first.drawn[name] - second.drawn[name],
            )
            for name in COMPARED
            if name in first.figures and name in second.figures
        },
    )
