"""Age, sex and body site as the second input of a graph."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.fields import Interval, Strict, Unit, check_keys
from models.safeguards import PredictionSets

SEXES = ("female", "male")
"""HAM10000's values of ``sex``, without ``unknown``."""

SITES = (
    "abdomen",
    "acral",
    "back",
    "chest",
    "ear",
    "face",
    "foot",
    "genital",
    "hand",
    "lower extremity",
    "neck",
    "scalp",
    "trunk",
    "upper extremity",
)
"""HAM10000's values of ``localization``, without ``unknown``."""

MAX_AGE = 120.0
"""Highest accepted age in years."""


class Metadata(NamedTuple):
    """Metadata of a patient and a lesion; None means unknown.

    Attributes:
        age: age in years, 0 to ``MAX_AGE``.
        sex: one of ``SEXES``.
        site: one of ``SITES``.
    """

    age: float | None = None
    sex: str | None = None
    site: str | None = None


class MetadataInput(Strict):
    """The graph's second input: float32 ``[N, columns]`` of zeros and ones.

    The columns are the age groups, the sexes and the sites. A known value sets its column to 1. For a row of
    zeros, the graph gives the probabilities of the image only.
    """

    name: str = Field(default="metadata", description="Name of the input.")
    ages: tuple[float, ...] = Field(
        min_length=1,
        description="Lower bound of each age group in years, starting with 0; the last group is open.",
    )
    sexes: tuple[str, ...] = Field(min_length=1)
    sites: tuple[str, ...] = Field(min_length=1)
    weight: Unit = Field(description="Exponent of each factor p(value | class) / p(value); 0 ignores them.")
    threshold: Unit = Field(description="Malignancy threshold for images with metadata.")
    target_sensitivity: Unit
    sensitivity: Interval = Field(
        description="Sensitivity at the threshold, on validation images with metadata."
    )
    specificity: Interval = Field(
        description="Specificity at the threshold, on validation images with metadata."
    )
    prediction_sets: PredictionSets = Field(description="Prediction sets for images with metadata.")
    metrics: dict[str, Interval] = Field(description="Metrics on the test part, with its metadata.")

    @property
    def columns(self) -> int:
        """Number of columns of the input."""
        return len(self.ages) + len(self.sexes) + len(self.sites)

    def known(self, metadata: Metadata) -> Metadata:
        """Return ``metadata`` without values for which the graph has no column."""
        return Metadata(
            age=metadata.age,
            sex=metadata.sex if metadata.sex in self.sexes else None,
            site=metadata.site if metadata.site in self.sites else None,
        )

    def encode(self, metadata: Metadata) -> NDArray[np.float32]:
        """Return a row of the input, float32 ``[columns]``."""
        row = np.zeros(self.columns, np.float32)
        known = self.known(metadata)
        if known.age is not None:
            row[sum(known.age >= age for age in self.ages) - 1] = 1
        if known.sex is not None:
            row[len(self.ages) + self.sexes.index(known.sex)] = 1
        if known.site is not None:
            row[len(self.ages) + len(self.sexes) + self.sites.index(known.site)] = 1
        return row

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.ages[0] != 0 or list(self.ages) != sorted(set(self.ages)):
            raise ValueError(f"ages: expected ascending years starting with 0, got {self.ages}")
        for name, values in (("sexes", self.sexes), ("sites", self.sites)):
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: a value occurs more than once")
        return self

    def check(self, codes: tuple[str, ...]) -> None:
        """Check that the prediction sets have the classes ``codes``.

        Raises:
            ValueError: they have other classes.
        """
        check_keys("metadata.prediction_sets.thresholds", self.prediction_sets.thresholds, codes)
        check_keys("metadata.prediction_sets.measured", self.prediction_sets.measured, ("overall", *codes))
