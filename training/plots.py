"""The pictures of a run, a data set and an evaluation.

``plot_...`` writes a PNG file, ``draw_...`` gives the figure.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, roc_curve

from training.data import CODES, Row
from training.scores import Predictions

matplotlib.use("Agg")  # no display is needed, nor looked for

_SIZE: dict[str, Any] = {"dpi": 110, "bbox_inches": "tight"}


def plot_data(path: Path, rows: Sequence[Row], split: Mapping[str, str]) -> None:
    """Classes by part, ages, sexes and sites of a data set."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    counts = Counter((row.dx, split[row.image_id]) for row in rows)
    bottom = np.zeros(len(CODES))
    for part in ("train", "validation", "test"):
        height = np.array([counts[code, part] for code in CODES])
        axes[0, 0].bar(CODES, height, bottom=bottom, label=part)
        bottom += height
    for index, total in enumerate(bottom):
        axes[0, 0].text(index, total, f"{total:.0f}", ha="center", va="bottom", fontsize=8)
    axes[0, 0].set(title="images by diagnosis", ylabel="images")
    axes[0, 0].legend()
    ages = [row.age for row in rows if row.age is not None]
    axes[0, 1].hist(ages, bins=np.arange(0, 95, 5) - 2.5)
    axes[0, 1].set(title=f"age in years ({len(rows) - len(ages)} unknown)", ylabel="images")
    for axis, field in ((axes[1, 0], "sex"), (axes[1, 1], "localization")):
        found = Counter(getattr(row, field) for row in rows).most_common()
        axis.barh([name for name, _ in found][::-1], [n for _, n in found][::-1])
        axis.set(title=f"{field}", xlabel="images")
    figure.savefig(path, **_SIZE)


def plot_curves(path: Path, history: Path) -> None:
    """Loss and accuracies over the epochs of one member, phases marked."""
    draw_curves(read_history(history)).savefig(path, **_SIZE)


def read_history(path: Path) -> list[dict[str, float]]:
    """The epochs of a ``history.csv``; NaN for what an epoch does not have."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [{name: float(value or "nan") for name, value in row.items()} for row in rows]


def draw_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """The figure of ``plot_curves``."""
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
        axis.set(xlabel="epoch (dotted: a new phase)")
        axis.legend()
    left.set(title="loss (train: augmented, as drawn; validation: true prevalence)")
    left.title.set_fontsize(9)
    right.set(title="validation accuracy (arg-max)")
    return figure


def plot_confusion(path: Path, predictions: Predictions) -> None:
    """Counts, coloured by the share of the true class."""
    draw_confusion(predictions).savefig(path, **_SIZE)


def draw_confusion(predictions: Predictions, *, shares: bool = False) -> Figure:
    """The figure of ``plot_confusion``; with ``shares``, the share stands above each count."""
    codes = predictions.codes
    counts = confusion_matrix(predictions.labels, predictions.decided, labels=np.arange(len(codes)))
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(5, 4.8) if shares else (6, 5.2), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(share, vmin=0, vmax=1, cmap="Blues")
    if not shares:
        figure.colorbar(image, label="share of the true class")
    for row, column in np.ndindex(*counts.shape):
        color = "white" if share[row, column] > 0.55 else "black"
        text = f"{share[row, column]:.2f}\n{counts[row, column]}" if shares else str(counts[row, column])
        axis.text(column, row, text, ha="center", va="center", color=color)
    axis.set(
        xticks=range(len(codes)),
        yticks=range(len(codes)),
        xticklabels=codes,
        yticklabels=codes,
        xlabel="label by the decision rule",
        ylabel="diagnosis",
    )
    return figure


def plot_f1(path: Path, f1_by_model: Mapping[str, Sequence[float]], codes: Sequence[str]) -> None:
    """Per-class F1 of each member and of the ensemble, side by side."""
    draw_bars(f1_by_model, codes, "F1").savefig(path, **_SIZE)


def draw_bars(
    values_by_model: Mapping[str, Sequence[float]],
    ticks: Sequence[str],
    label: str,
    intervals: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Figure:
    """One group of bars for each tick, one bar in it for each model.

    Args:
        values_by_model: in [0, 1], one for each tick; NaN for none.
        ticks: names of the groups.
        label: what the values are.
        intervals: lower and upper bound of each value.
    """
    width = 0.8 / len(values_by_model)
    figure = Figure(figsize=(max(9.0, 0.22 * len(values_by_model) * len(ticks)), 3.8), layout="constrained")
    axis = figure.subplots()
    turned = 90 if len(values_by_model) > 4 else 0
    for index, (name, values) in enumerate(values_by_model.items()):
        errors = None
        if intervals:
            bounds = np.array(intervals[name]).T
            errors = np.maximum([values - bounds[0], bounds[1] - values], 0)
        bars = axis.bar(
            np.arange(len(ticks)) + index * width,
            values,
            width,
            yerr=errors,
            error_kw={"linewidth": 0.8, "ecolor": "0.35"},
            label=name,
            color=model_color(index),
        )
        axis.bar_label(bars, fmt="%.2f", fontsize=6, rotation=turned, padding=2 if turned else 0)
    middle = 0.4 - width / 2
    axis.set(xticks=np.arange(len(ticks)) + middle, xticklabels=ticks, ylabel=label, ylim=(0, 1.12))
    figure.legend(ncols=min(len(values_by_model), 4), loc="outside upper center", frameon=False)
    return figure


def model_color(index: int) -> Any:
    """The colour of the ``index``-th model, the same in every plot; they repeat after twenty."""
    # First the ten strong colours of the palette, then their ten light ones.
    return matplotlib.colormaps["tab20"]((2 * index) % 20 + (index // 10) % 2)


def plot_roc(path: Path, predictions: Predictions, figures: Mapping[str, float]) -> None:
    """One against the rest for every class, and malignant against benign with its threshold."""
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axis = figure.subplots()
    for index, code in enumerate(predictions.codes):
        if f"auc_{code}" in figures:
            fpr, tpr, _ = roc_curve(predictions.labels == index, predictions.probabilities[:, index])
            axis.plot(fpr, tpr, linewidth=1, label=f"{code} ({figures[f'auc_{code}']:.3f})")
    if "malignancy_auc" in figures:
        sick = predictions.malignant[predictions.labels]
        fpr, tpr, _ = roc_curve(sick, predictions.probabilities[:, predictions.malignant].sum(axis=1))
        area = figures["malignancy_auc"]
        axis.plot(fpr, tpr, color="black", linewidth=2, label=f"malignant ({area:.3f})")
        point = (1 - figures["malignancy_specificity"], figures["malignancy_sensitivity"])
        axis.plot(*point, "ko", label=f"threshold {predictions.threshold:.3f}")
    axis.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    axis.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    axis.legend(title="AUC", loc="lower right", fontsize=8)
    figure.savefig(path, **_SIZE)


def plot_reliability(path: Path, predictions: Predictions, ece: float, bins: int = 15) -> None:
    """How often the most probable class is right, by how probable it was said to be."""
    draw_reliability(predictions, ece, bins).savefig(path, **_SIZE)


def draw_reliability(predictions: Predictions, ece: float, bins: int = 15) -> Figure:
    """The figure of ``plot_reliability``."""
    confidence = predictions.probabilities.max(axis=1)
    correct = predictions.probabilities.argmax(axis=1) == predictions.labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    figure = Figure(figsize=(5, 5.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    for b in np.unique(index):
        chosen = index == b
        upper.bar((b + 0.5) / bins, correct[chosen].mean(), 0.9 / bins, color="tab:blue")
        lower.bar((b + 0.5) / bins, chosen.sum(), 0.9 / bins, color="tab:grey")
    upper.plot([0, 1], [0, 1], color="black", linestyle=":")
    upper.set(ylabel="share right", title=f"expected calibration error {ece:.3f}", ylim=(0, 1))
    lower.set(xlabel="probability of the most probable class", ylabel="images", xlim=(0, 1))
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    # Laid out by itself, without bbox_inches="tight": that would draw all of it a second time.
    figure.savefig(buffer, format="png", dpi=_SIZE["dpi"])
    return buffer.getvalue()
