"""Evaluates the specialists of a combination: networks that decide between two classes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from training.calibration.fit import Calibration
from training.evaluation.plots import plot_confusion
from training.markdown import table
from training.metrics.scores import Predictions, scores
from training.run import Run

_METRICS = {"accuracy_rule": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}


def specialist_predictions(
    run: Run, calibration: Calibration, logits: tuple[np.ndarray, ...], part: str
) -> dict[str, Predictions]:
    """Return the predictions of each specialist on the images of its classes, by its name.

    A specialist decides for its most probable class.

    Args:
        run: the run; without specialists, the result is empty.
        calibration: the run's calibration.
        logits: ``[N, K_m]`` of each member, for all images of the part.
        part: the part.
    """
    found = {}
    rows, codes = run.part(part), run.classes.codes
    for member, p in zip(run.recipe.members, calibration.member_probabilities(logits), strict=True):
        if not member.classes:
            continue
        chosen = run.chosen(member, part)
        malignant = run.classes.malignant[[codes.index(code) for code in member.classes]]
        found[member.name] = Predictions(
            probabilities=p[chosen],
            decided=p[chosen].argmax(axis=1),
            labels=run.member_labels(member, part),
            lesions=np.array([rows[index].lesion_id for index in chosen]),
            codes=member.classes,
            malignant=malignant,
            threshold=calibration.threshold,
        )
    return found


def plot_specialists(folder: Path, specialists: Mapping[str, Predictions]) -> None:
    """Plot the confusion matrix of each specialist to ``confusion_matrix_NAME.png``."""
    for name, predictions in specialists.items():
        plot_confusion(folder / _picture(name), predictions)


def specialist_section(specialists: Mapping[str, Predictions]) -> list[str]:
    """Return the section of the report about the specialists; empty without specialists."""
    if not specialists:
        return []
    lines = [
        "## Specialists",
        "",
        "Each is evaluated on the test images of its classes. Its label is its most probable class.",
        "",
    ]
    rows = []
    for name, predictions in specialists.items():
        found = scores(predictions)
        metrics = [f"{found[key]:.3f}" for key in _METRICS]
        rows.append((name, ", ".join(predictions.codes), len(predictions.labels), *metrics))
    lines += table(("specialist", "classes", "images", *_METRICS.values()), rows)
    for name in specialists:
        lines += [f"![Confusion matrix of {name}]({_picture(name)})", ""]
    return lines


def _picture(name: str) -> str:
    return f"confusion_matrix_{name}.png"
