"""Plots loss and accuracies over the epochs of one member."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from training.figure_files import SAVE_OPTIONS


def plot_curves(path: Path, history: Path) -> None:
    """Plot the ``history.csv`` at ``history`` to the PNG file ``path``."""
    draw_curves(read_history(history)).savefig(path, **SAVE_OPTIONS)


def read_history(path: Path) -> list[dict[str, float]]:
    """Read the epochs of a ``history.csv``; empty cells become NaN."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [{name: float(value or "nan") for name, value in row.items()} for row in rows]


def draw_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw loss and accuracies over the epochs, with a dotted line at each change of phase."""
    epochs = np.arange(1, len(history) + 1)
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axis, names in ((left, ("train_loss", "loss")), (right, ("accuracy", "balanced_accuracy"))):
        for name in names:
            label = {"loss": "validation loss"}.get(name, name.replace("_", " "))
            axis.plot(epochs, [record[name] for record in history], marker="o", markersize=3, label=label)
        for index in range(1, len(history)):
            if history[index]["phase"] != history[index - 1]["phase"]:
                axis.axvline(index + 0.5, color="grey", linestyle=":", linewidth=1)
        axis.set(xlabel="epoch (dotted: start of a phase)")
        axis.legend()
    left.set(title="loss (training: augmented and sampled; validation: true prevalence)")
    left.title.set_fontsize(9)
    right.set(title="validation accuracy (arg-max)")
    return figure
