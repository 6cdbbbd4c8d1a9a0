"""A recipe with what is known of it: what it is, what its source leaves open, what was published."""

from dataclasses import dataclass, fields

from training.data.dataset import CODES
from training.recipe import Recipe


@dataclass(frozen=True)
class Published:
    """Figures that the authors of a prior system give, measured on their own test part.

    All prior systems split by image, so photographs of one lesion lie on both sides: the figures are
    too high to be compared with those of a split by lesion. None stands where the authors give none.
    """

    accuracy: float | None = None
    macro_f1: float | None = None
    macro_recall: float | None = None
    weighted_f1: float | None = None
    # The next three without a word on which average over the classes they are.
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    f1_by_class: tuple[float, ...] = ()  # in the order of CODES
    test_loss: float | None = None
    validation_accuracy: float | None = None
    minutes: float | None = None  # of training, on the authors' machine
    remark: str = ""

    def text(self) -> str:
        """The figures on one line, as "accuracy 0.7645, macro F1 0.639"."""
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
    """One row of the catalogue.

    Attributes:
        recipe: what is trained.
        summary: what it is, in one line.
        choices: what its source leaves open, and how it is chosen here.
        published: the figures of its source, if it has any.
        measured: the figures measured in this project, if any.
    """

    recipe: Recipe
    summary: str
    choices: str = ""
    published: Published | None = None
    measured: str = ""


def _number(value: float) -> str:
    """With two decimals at least, and no more than the source gives; minutes whole."""
    if value >= 10:
        return f"{value:,.0f}"
    return max(f"{value:.2f}", f"{value:g}", key=len)
