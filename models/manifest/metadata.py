"""Age, sex and body site as the second input of a graph."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from models.manifest.fields import Interval, Strict, Unit, check_keys
from models.manifest.safeguards import PredictionSets

Sex = Literal["female", "male"]

Site = Literal[
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
]

SEXES: tuple[Sex, ...] = get_args(Sex)
"""HAM10000's values of ``sex`` except ``unknown``."""

SITES: tuple[Site, ...] = get_args(Site)
"""HAM10000's values of ``localization`` except ``unknown``."""

MAX_AGE = 120.0
"""Highest accepted age in years."""


def _unknown(value: object) -> bool:
    return value is None


class Metadata(Strict):
    """What is known of a patient and a lesion. A member that is absent or null is not known."""

    age: Annotated[float, Field(ge=0, le=MAX_AGE)] | SkipJsonSchema[None] = Field(
        default=None, exclude_if=_unknown, description="In years.", examples=[55]
    )
    sex: Sex | SkipJsonSchema[None] = Field(default=None, exclude_if=_unknown, examples=["female"])
    site: Site | SkipJsonSchema[None] = Field(
        default=None,
        exclude_if=_unknown,
        description="Body site of the lesion, one of HAM10000's localizations.",
        examples=["back"],
    )

    def __bool__(self) -> bool:
        """Whether anything is known."""
        return self != NO_METADATA


NO_METADATA = Metadata()
"""Nothing is known."""


def encode_metadata(
    metadata: Metadata, ages: Sequence[float], sexes: Sequence[Sex], sites: Sequence[Site]
) -> NDArray[np.float32]:
    """Return a row of a graph's second input: zeros, and a 1 for each known value that has a column.

    Args:
        metadata: of one image.
        ages: lower bound of each age group in years, starting with 0.
        sexes, sites: the values that have a column.

    Returns:
        float32 ``[columns]``: the age groups, the sexes and the sites.
    """
    row = np.zeros(len(ages) + len(sexes) + len(sites), np.float32)
    if metadata.age is not None:
        row[sum(metadata.age >= age for age in ages) - 1] = 1
    if metadata.sex in sexes:
        row[len(ages) + sexes.index(metadata.sex)] = 1
    if metadata.site in sites:
        row[len(ages) + len(sexes) + sites.index(metadata.site)] = 1
    return row


class Comparison(Strict):
    """Metrics of the same test images with and without their metadata."""

    images: int = Field(gt=0, description="Number of test images with any known value.")
    metrics: dict[str, Interval] = Field(description="Measured on the test part, with its metadata.")
    image_only: dict[str, Interval] = Field(description="The same, without the metadata.")


class MetadataInput(Comparison):
    """The graph's second input: float32 ``[N, columns]`` of zeros and ones.

    The columns are the age groups, the sexes and the sites. A known value sets its column to 1. For a row of
    zeros, the graph gives the probabilities of the image only.
    """

    name: str = Field(default="metadata", description="Name of the input.")
    ages: tuple[float, ...] = Field(
        min_length=1,
        description="Lower bound of each age group in years, starting with 0; the last group is open.",
    )
    sexes: tuple[Sex, ...] = Field(min_length=1)
    sites: tuple[Site, ...] = Field(min_length=1)
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
    under_40: Comparison | None = Field(
        default=None, description="For patients under 40. Null if the test part has too few of them."
    )

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
        return encode_metadata(metadata, self.ages, self.sexes, self.sites)

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
