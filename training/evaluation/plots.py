"""Plots of an evaluation. The ``plot_…`` functions write PNG files, the ``draw_…`` ones return figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, roc_curve

from training.figure_files import SAVE_OPTIONS
from training.metrics.scores import Predictions


def plot_confusion(path: Path, predictions: Predictions) -> None:
    """Plot the confusion matrix: counts, coloured by the share of the true class."""
    draw_confusion(predictions).savefig(path, **SAVE_OPTIONS)


def draw_confusion(predictions: Predictions, *, shares: bool = False) -> Figure:
    """Draw the confusion matrix; with ``shares``, each cell also shows the share of the true class."""
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
        xlabel="label",
        ylabel="diagnosis",
    )
    return figure


def plot_f1(path: Path, f1_by_model: Mapping[str, Sequence[float]], codes: Sequence[str]) -> None:
    """Plot the F1 of each class for each model; ``f1_by_model`` has one value per class."""
    draw_bars(f1_by_model, codes, "F1").savefig(path, **SAVE_OPTIONS)


def draw_bars(
    values_by_model: Mapping[str, Sequence[float]],
    ticks: Sequence[str],
    label: str,
    intervals: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Figure:
    """Draw a bar chart with a group of bars for each tick and a bar for each model.

    Args:
        values_by_model: values in [0, 1], one per tick; NaN draws no bar.
        ticks: names of the groups.
        label: label of the y axis.
        intervals: lower and upper bound of each value.
    """
    width = 0.8 / len(values_by_model)
    figure = Figure(figsize=(max(9.0, 0.22 * len(values_by_model) * len(ticks)), 3.8), layout="constrained")
    axis = figure.subplots()
    rotation = 90 if len(values_by_model) > 4 else 0
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
        axis.bar_label(bars, fmt="%.2f", fontsize=6, rotation=rotation, padding=2 if rotation else 0)
    centre = 0.4 - width / 2
    axis.set(xticks=np.arange(len(ticks)) + centre, xticklabels=ticks, ylabel=label, ylim=(0, 1.12))
    figure.legend(ncols=min(len(values_by_model), 4), loc="outside upper center", frameon=False)
    return figure


def model_color(index: int) -> Any:
    """Return the colour of model ``index``, the same in all plots; colours repeat after twenty models."""
    # The ten dark colours of the palette come first, then the ten light ones.
    return matplotlib.colormaps["tab20"]((2 * index) % 20 + (index // 10) % 2)


def plot_roc(path: Path, predictions: Predictions, metrics: Mapping[str, float]) -> None:
    """Plot the ROC curves of each class against the rest, and of malignancy with its threshold."""
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axis = figure.subplots()
    for index, code in enumerate(predictions.codes):
        if f"auc_{code}" in metrics:
            fpr, tpr, _ = roc_curve(predictions.labels == index, predictions.probabilities[:, index])
            axis.plot(fpr, tpr, linewidth=1, label=f"{code} ({metrics[f'auc_{code}']:.3f})")
    if "malignancy_auc" in metrics:
        is_malignant = predictions.malignant[predictions.labels]
        fpr, tpr, _ = roc_curve(is_malignant, predictions.probabilities[:, predictions.malignant].sum(axis=1))
        area = metrics["malignancy_auc"]
        axis.plot(fpr, tpr, color="black", linewidth=2, label=f"malignant ({area:.3f})")
        point = (1 - metrics["malignancy_specificity"], metrics["malignancy_sensitivity"])
        axis.plot(*point, "ko", label=f"threshold {predictions.threshold:.3f}")
    axis.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    axis.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    axis.legend(title="AUC", loc="lower right", fontsize=8)
    figure.savefig(path, **SAVE_OPTIONS)


def plot_reliability(path: Path, predictions: Predictions, ece: float, bins: int = 15) -> None:
    """Plot the accuracy of the most probable class against its probability, in ``bins`` equal bins."""
    draw_reliability(predictions, ece, bins).savefig(path, **SAVE_OPTIONS)


def draw_reliability(predictions: Predictions, ece: float, bins: int = 15) -> Figure:
    """Draw the reliability diagram of ``plot_reliability``."""
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
    upper.set(ylabel="accuracy", title=f"expected calibration error {ece:.3f}", ylim=(0, 1))
    lower.set(xlabel="probability of the most probable class", ylabel="images", xlim=(0, 1))
    return figure
