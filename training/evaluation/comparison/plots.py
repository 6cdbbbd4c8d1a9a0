"""Plots with several runs on the same axes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from training.data.dataset import Row
from training.evaluation.comparison.scoring import Scored
from training.evaluation.plots import draw_bars, model_color
from training.metrics.scores import Predictions

_GRID = np.linspace(0, 1, 501)


def draw_f1(scored: Sequence[Scored], codes: Sequence[str]) -> Figure:
    """Draw the F1 of every class for each model."""
    return _bars(scored, {f"f1_{code}": code for code in codes})


def draw_averages(scored: Sequence[Scored]) -> Figure:
    """Draw macro, micro and weighted F1 for each model."""
    return _bars(scored, {"macro_f1": "macro", "micro_f1": "micro (= accuracy)",
                          "weighted_f1": "weighted"})  # fmt: skip


def draw_rocs(scored: Sequence[Scored]) -> Figure:
    """Draw ROC and precision-recall curves: malignant against benign, and the mean over the classes."""
    several = len(scored[0].run.predictions.codes) > 2  # with two classes, both rows would be equal
    figure = Figure(figsize=(10, 10 if several else 5.2), layout="constrained")
    rows = figure.subplots(2 if several else 1, 2, squeeze=False)
    for index, row in enumerate(scored):
        predictions = row.run.predictions
        is_malignant = predictions.malignant[predictions.labels]
        score = predictions.probabilities[:, predictions.malignant].sum(axis=1)
        _curves(rows[0], [(is_malignant, score)], row.name, index)
        if "malignancy_sensitivity" in row.metrics and "malignancy_specificity" in row.metrics:
            point = [row.metrics[f"malignancy_{name}"]["value"] for name in ("specificity", "sensitivity")]
            rows[0, 0].plot(1 - point[0], point[1], "o", color=model_color(index))
        if several:
            _curves(rows[1], _one_against_rest(predictions), row.name, index)
    titles = [
        "malignant against benign (dot: the run's threshold)",
        "mean over the classes, each against the rest",
    ]
    for (roc, recall), title in zip(rows, titles, strict=False):
        roc.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
        roc.set(xlabel="1 − specificity", ylabel="sensitivity", title=f"ROC: {title}")
        recall.set(xlabel="recall", ylabel="precision", title="precision and recall", ylim=(0, 1.02))
        roc.title.set_fontsize(10)
        recall.title.set_fontsize(10)
        roc.legend(title="area under the curve", loc="lower right", fontsize=8)
        recall.legend(title="average precision", loc="lower left", fontsize=8)
    return figure


def draw_population(test: Sequence[Row], rows: Sequence[Row]) -> Figure:
    """Draw the ages and body sites of the test images and of the whole data set."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    parts = {f"test ({len(test):,} images)": test, f"all ({len(rows):,} images)": rows}
    bins = np.arange(0, 100, 5) - 2.5
    for index, (name, part) in enumerate(parts.items()):
        ages = [row.age for row in part if row.age is not None]
        label = f"{name}, {len(part) - len(ages)} of unknown age"
        shares = np.full(len(ages), 1 / max(len(part), 1))
        left.hist(ages, bins=bins, weights=shares, label=label, histtype="step" if index else "bar",
                  color=model_color(index), linewidth=2)  # fmt: skip
    left.set(title="age", xlabel="years", ylabel="share of the images")
    left.margins(y=0.25)  # room for the legend
    left.legend(fontsize=8)
    sites = [row.localization for row in rows]
    order = sorted(set(sites), key=sites.count)
    for index, (name, part) in enumerate(parts.items()):
        found = [row.localization for row in part]
        lengths = [found.count(site) / max(len(part), 1) for site in order]
        right.barh(
            np.arange(len(order)) + 0.2 - 0.4 * index, lengths, 0.4, label=name, color=model_color(index)
        )
    right.set(title="body site", xlabel="share of the images", yticks=range(len(order)), yticklabels=order)
    right.legend(fontsize=8, loc="lower right")
    return figure


def _bars(scored: Sequence[Scored], ticks: dict[str, str]) -> Figure:
    undefined = dict.fromkeys(("value", "low", "high"), float("nan"))
    metrics = {row.name: [row.metrics.get(key, undefined) for key in ticks] for row in scored}
    values = {name: [metric["value"] for metric in found] for name, found in metrics.items()}
    intervals = {name: [(m["low"], m["high"]) for m in found] for name, found in metrics.items()}
    return draw_bars(values, list(ticks.values()), "F1, with 95 % interval", intervals)


def _one_against_rest(predictions: Predictions) -> list[tuple[np.ndarray, np.ndarray]]:
    classes = range(len(predictions.codes))
    pairs = [(predictions.labels == c, predictions.probabilities[:, c]) for c in classes]
    return [(truth, score) for truth, score in pairs if 0 < truth.sum() < len(truth)]


def _curves(
    axes: Sequence[Axes], pairs: Sequence[tuple[np.ndarray, np.ndarray]], name: str, index: int
) -> None:
    """Draw a run's ROC and precision-recall curves, averaged over ``pairs`` of truth and score at equal x."""
    pairs = [(truth, score) for truth, score in pairs if 0 < truth.sum() < len(truth)]
    if not pairs:
        return
    rates, precisions = [], []
    for truth, score in pairs:
        false_rate, true_rate, _ = roc_curve(truth, score)
        rates.append(np.interp(_GRID, false_rate, true_rate))
        precision, recall, _ = precision_recall_curve(truth, score)
        # Recall decreases along the arrays. Precision must not be interpolated linearly (Davis and Goadrich,
        # ICML 2006), so the next point that reaches the recall counts.
        reached = len(recall) - 1 - np.searchsorted(recall[::-1], _GRID, side="left")
        precisions.append(precision[reached])
    area = np.mean([roc_auc_score(truth, score) for truth, score in pairs])
    average_precision = np.mean([average_precision_score(truth, score) for truth, score in pairs])
    color, style = model_color(index), ("-", "--", "-.", ":")[index % 4]
    axes[0].plot(_GRID, np.mean(rates, axis=0), style, color=color, label=f"{name} ({area:.3f})")
    label = f"{name} ({average_precision:.3f})"
    axes[1].plot(_GRID, np.mean(precisions, axis=0), style, color=color, label=label)
