"""Turns an evaluated run of a recipe into an entry of the catalogue."""

from dataclasses import fields
from typing import Any

from training.catalogue import find_entry
from training.data.dataset import CODES
from training.fit.curves import read_history
from training.recipe import MemberRecipe, RecipeError
from training.recipes.entry import Estimate, Measured
from training.run import Run, read_json

_METRICS = ("accuracy", "macro_f1", "macro_precision", "macro_recall", "weighted_f1", "precision", "recall")
_NOT_COMPARED = ("name", "members", "phases", "starting_weights")


def measured(run: Run, command: str) -> Measured:
    """Return the metrics and the schedule of ``run``.

    Args:
        run: an evaluated run of a recipe of the catalogue.
        command: the command that trained it, with placeholders for folders.

    Raises:
        RecipeError: the run is not evaluated, or its recipe is not in the catalogue.
    """
    file = run.folder / "evaluation" / "metrics.json"
    metrics = read_json(file) if file.is_file() else {}
    if "as_published" not in metrics:
        raise RecipeError(f"{file}: no metrics; `python -m training evaluate` writes them")
    found = metrics["as_published"][run.recipe.task]
    return Measured(
        command=command,
        schedule=schedule(run),
        split_by=metrics["split_by"],
        images=len(run.part("test")),
        **{name: _estimate(found[name]) for name in _METRICS if name in found},
        f1_by_class=tuple(round(found[f"f1_{code}"]["value"], 3) for code in CODES if f"f1_{code}" in found),
    )


def schedule(run: Run) -> str:
    """Return the epochs of each phase that were trained, and every value that differs from the recipe's."""
    stated = find_entry(run.recipe.name).recipe
    texts = []
    for member, wanted in zip(run.recipe.members, stated.members, strict=True):
        history = read_history(run.folder / member.name / "history.csv")
        trained = [sum(epoch["phase"] == index for epoch in history) for index in range(len(wanted.phases))]
        epochs = [f"{count} of {phase.epochs}" for count, phase in zip(trained, wanted.phases, strict=True)]
        texts.append(f"{member.name}: {' and '.join(epochs)} epochs")
        texts += _changes(member, wanted)
    return ", ".join(texts + _changes(run.recipe, stated))


def _changes(used: Any, stated: Any) -> list[str]:
    prefix = f"{used.name}: " if isinstance(used, MemberRecipe) else ""
    return [
        f"{prefix}{field.name} {getattr(used, field.name)} instead of {getattr(stated, field.name)}"
        for field in fields(used)
        if field.name not in _NOT_COMPARED and getattr(used, field.name) != getattr(stated, field.name)
    ]


def _estimate(metric: dict[str, float]) -> Estimate:
    return round(metric["value"], 4), round(metric["low"], 4), round(metric["high"], 4)
