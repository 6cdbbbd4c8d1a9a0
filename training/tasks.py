"""The questions a model can answer: seven diagnoses, or benign against malignant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.labels import HAM10000_LABELS, Label

Task = Literal["diagnosis", "malignancy"]
TASKS: tuple[Task, ...] = ("diagnosis", "malignancy")

_BINARY = (Label("benign", "Benign lesion", False), Label("malignant", "Malignant lesion", True))


@dataclass(frozen=True)
class Classes:
    """The classes of a task, in the order of a model's columns."""

    labels: tuple[Label, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """Their codes."""
        return tuple(label.code for label in self.labels)

    @property
    def malignant(self) -> np.ndarray:
        """Which are malignant, bool ``[K]``."""
        return np.array([label.malignant for label in self.labels])

    def indices(self, diagnoses: Sequence[str]) -> np.ndarray:
        """Class index int ``[N]`` of each image from its ``dx``."""
        index_of = {code: index for index, code in enumerate(self.codes)}
        if self.labels is _BINARY:
            index_of = {label.code: int(label.malignant) for label in HAM10000_LABELS}
        return np.array([index_of[dx] for dx in diagnoses], dtype=np.int64)


def classes_of(task: Task) -> Classes:
    """The classes of ``task``."""
    return Classes(_BINARY if task == "malignancy" else HAM10000_LABELS)
