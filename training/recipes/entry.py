"""An entry of the catalogue: a recipe with its description, and its published and measured metrics."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from training.data.dataset import CODES
from training.recipe import Recipe

if TYPE_CHECKING:  # imports scipy, which networks without training do not need
    from training.data.split import SplitBy

Estimate = tuple[float, float, float]
"""A metric, and the lower and the upper bound of its 95 % interval."""


@dataclass(frozen=True)
class Published:
    """Metrics that the authors of a prior system published, on their own test part; None if unpublished.

    All prior systems split by image, so images of one lesion are in both training and test data. The metrics
    are too high to be compared with those of a split by lesion.
    """

    accuracy: float | None = None
    macro_f1: float | None = None
    macro_recall: float | None = None
    weighted_f1: float | None = None
    # For the next three, the authors do not state the kind of average over the classes.
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    f1_by_class: tuple[float, ...] = ()  # in the order of CODES
    test_loss: float | None = None
    validation_accuracy: float | None = None
    minutes: float | None = None  # of training, on the authors' machine
    remark: str = ""

    def text(self) -> str:
        """Return the metrics on one line, such as "accuracy 0.7645, macro F1 0.639"."""
        numbers = [
            f"{_title(field.name)} {_number(value)}"
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), int | float)
        ]
        parts = [", ".join(numbers), _by_class(self.f1_by_class), self.remark]
        return "; ".join(part for part in parts if part)


@dataclass(frozen=True)
class Measured:
    """Metrics of one run of a recipe in this project, scored on its test part as the published systems score.

    ``python -m training recipes --measured RUN`` prints it. None if the task has no such metric.

    Attributes:
        command: the command that trained the run.
        schedule: the epochs that were trained, beside those of the recipe, and what else differed from it.
        split_by: ``"image"`` as in the published systems, or ``"lesion"``.
        images: number of test images.
        precision, recall: of malignant, at a probability of 0.5.
        f1_by_class: in the order of ``CODES``.
    """

    command: str
    schedule: str
    split_by: "SplitBy"
    images: int
    accuracy: Estimate
    macro_f1: Estimate | None = None
    macro_precision: Estimate | None = None
    macro_recall: Estimate | None = None
    weighted_f1: Estimate | None = None
    precision: Estimate | None = None
    recall: Estimate | None = None
    f1_by_class: tuple[float, ...] = ()

    def text(self) -> str:
        """Return the split, the metrics with their intervals, and the schedule on one line."""
        estimates = [
            f"{_title(field.name)} {value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"
            for field in fields(self)
            if field.name != "f1_by_class" and isinstance(value := getattr(self, field.name), tuple)
        ]
        metrics = f"by {self.split_by}, {self.images:,} test images: {', '.join(estimates)}"
        return "; ".join(part for part in (metrics, _by_class(self.f1_by_class), self.schedule) if part)

    def source(self) -> str:
        """Return the Python expression of this object, with a line for each value."""
        values: list[tuple[str, Any]] = [(field.name, getattr(self, field.name)) for field in fields(self)]
        lines = [f"    {name}={value!r}," for name, value in values if value not in (None, ())]
        return "\n".join(["Measured(", *lines, ")"])


@dataclass(frozen=True)
class Entry:
    """An entry of the catalogue.

    Attributes:
        recipe: the recipe.
        summary: a description of one line.
        choices: values that the source does not state, as chosen here.
        published: the metrics that the source published, if any.
        measured: the runs of the recipe in this project whose metrics are documented.
    """

    recipe: Recipe
    summary: str
    choices: str = ""
    published: Published | None = None
    measured: tuple[Measured, ...] = ()


def _title(name: str) -> str:
    return name.replace("_", " ").replace("f1", "F1")


def _by_class(f1: Sequence[float]) -> str:
    """Return the F1 of each class, or nothing if there is none."""
    if not f1:
        return ""
    by_class = zip(CODES, f1, strict=True)
    return "F1 by class: " + ", ".join(f"{code} {_number(value)}" for code, value in by_class)


def _number(value: float) -> str:
    """Format with at least two decimals, and with all decimals of the source; minutes without decimals."""
    if value >= 10:
        return f"{value:,.0f}"
    return max(f"{value:.2f}", f"{value:g}", key=len)
