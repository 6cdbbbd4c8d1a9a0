"""An entry of the catalogue: a recipe with its description and its published metrics."""

from dataclasses import dataclass, fields

from training.data.dataset import CODES
from training.recipe import Recipe


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
            f"{field.name.replace('_', ' ').replace('f1', 'F1')} {_number(value)}"
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), int | float)
        ]
        parts = [", ".join(numbers), self.remark]
        if self.f1_by_class:
            by_class = zip(CODES, self.f1_by_class, strict=True)
            parts.insert(1, "F1 by class: " + ", ".join(f"{code} {_number(f1)}" for code, f1 in by_class))
        return "; ".join(part for part in parts if part)


@dataclass(frozen=True)
class Entry:
    """An entry of the catalogue.

    Attributes:
        recipe: the recipe.
        summary: a description of one line.
        choices: values that the source does not state, as chosen here.
        published: the metrics that the source published, if any.
        measured: the metrics measured in this project, if any.
    """

    recipe: Recipe
    summary: str
    choices: str = ""
    published: Published | None = None
    measured: str = ""


def _number(value: float) -> str:
    """Format with at least two decimals, and with all decimals of the source; minutes without decimals."""
    if value >= 10:
        return f"{value:,.0f}"
    return max(f"{value:.2f}", f"{value:g}", key=len)
