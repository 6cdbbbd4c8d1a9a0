"""The evaluation as Markdown with its plots: what a reader needs to judge a model, on one page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.calibration import Calibration
from training.data import CODES
from training.plots import plot_confusion, plot_f1, plot_reliability, plot_roc
from training.run import Run, image_counts
from training.scores import Predictions
from training.split import PARTS

_HEADLINES = {
    "balanced_accuracy": "balanced accuracy (decision rule)",
    "balanced_accuracy_argmax": "balanced accuracy (arg-max)",
    "accuracy": "accuracy (arg-max)",
    "accuracy_rule": "accuracy (decision rule)",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "macro_auc": "macro AUC",
    "malignancy_sensitivity": "malignancy sensitivity",
    "malignancy_specificity": "malignancy specificity",
    "malignancy_auc": "malignancy AUC",
    "ece": "expected calibration error",
    "log_loss": "log loss",
}


def write_report(
    folder: Path, run: Run, calibration: Calibration, metrics: Mapping[str, Any], test: Predictions
) -> None:
    """Write ``report.md`` and its plots into ``folder``.

    Args:
        folder: the run's ``evaluation`` folder.
        run: for the recipe and the split.
        calibration: that was fitted on validation.
        metrics: as ``evaluate`` returns them.
        test: the ensemble's answers on the test part.
    """
    figures = {name: interval["value"] for name, interval in metrics["test"].items()}
    members = {name: [m[f"f1_{code}"] for code in CODES] for name, m in metrics["members"].items()}
    plot_confusion(folder / "confusion_matrix.png", test)
    plot_f1(folder / "f1_by_class.png", members | {"ensemble": [figures[f"f1_{c}"] for c in CODES]}, CODES)
    plot_roc(folder / "roc.png", test, figures)
    plot_reliability(folder / "reliability.png", test, figures["ece"])
    images, lesions = image_counts({part: run.part(part) for part in PARTS})
    lines = [
        f"# Evaluation of `{run.recipe.name}`",
        "",
        "Scored once on the test part. Temperatures, decision rule and threshold were fitted on the "
        "validation part alone. Intervals: 95 %, bootstrap over lesions within each class. "
        "No lesion lies in two parts.",
        "",
        "| part | images | lesions |",
        "| --- | --- | --- |",
        *(f"| {part} | {images[part]} | {lesions[part]} |" for part in PARTS),
        "",
        "| figure | test | 95 % interval | validation |",
        "| --- | --- | --- | --- |",
        *(
            f"| {title} | {_value(metrics['test'], name)} | {_interval(metrics['test'], name)} "
            f"| {_value(metrics['validation'], name)} |"
            for name, title in _HEADLINES.items()
            if name in figures
        ),
        "",
        "| class | images | precision | recall | F1 | AUC |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {code} | {(test.labels == index).sum()} | "
            + " | ".join(
                f"{_value(metrics['test'], f'{kind}_{code}')} {_interval(metrics['test'], f'{kind}_{code}')}"
                for kind in ("precision", "recall", "f1", "auc")
            )
            + " |"
            for index, code in enumerate(CODES)
        ),
        "",
        "| model | balanced accuracy (rule) | accuracy (arg-max) | macro F1 | macro AUC |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {name} | " + " | ".join(_plain(m, key) for key in _COMPARED) + " |"
            for name, m in (metrics["members"] | {"ensemble": figures}).items()
        ),
        "",
        f"Temperatures: {_listed(run, calibration.temperatures)}. Weights: "
        f"{_listed(run, calibration.weights)}. Decision rule: largest p / prior^{calibration.tau:g}. "
        f"Malignancy threshold: {calibration.threshold:.4f}.",
        "",
        "![Confusion matrix](confusion_matrix.png)",
        "",
        "![F1 by class, members and ensemble](f1_by_class.png)",
        "",
        "![ROC](roc.png)",
        "",
        "![Reliability](reliability.png)",
        "",
    ]
    (folder / "report.md").write_text("\n".join(lines), encoding="utf-8")


_COMPARED = ("balanced_accuracy", "accuracy", "macro_f1", "macro_auc")


def _value(figures: Mapping[str, Mapping[str, float]], name: str) -> str:
    return f"{figures[name]['value']:.3f}" if name in figures else "–"


def _interval(figures: Mapping[str, Mapping[str, float]], name: str) -> str:
    return f"[{figures[name]['low']:.3f}, {figures[name]['high']:.3f}]" if name in figures else ""


def _plain(figures: Mapping[str, float], name: str) -> str:
    return f"{figures[name]:.3f}" if name in figures else "–"


def _listed(run: Run, values: tuple[float, ...]) -> str:
    return ", ".join(f"{m.name} {v:.3g}" for m, v in zip(run.recipe.members, values, strict=True))
