"""The safeguards of a manifest: prediction sets, thresholds for warnings, and the drift reference.

Training fits the limits of image quality on training images and everything else on validation images. It
measures the prediction sets on the test part. The service only compares values with these thresholds.
"""

from typing import Self

from pydantic import Field, model_validator

from models.manifest.fields import Interval, Strict, Unit, check_shares

CONFIDENCE_BINS = 10
"""Number of equal bins of [0, 1] in ``DriftReference.confidence``; the last bin includes 1."""


class PredictionSets(Strict):
    """Thresholds of prediction sets, and their measured coverage and size.

    A class belongs to an image's set if its probability reaches the class's threshold. The predicted label
    and the most probable class always belong. The thresholds are fitted by split conformal prediction
    conditional on the class (Vovk, "Conditional validity of inductive conformal predictors", ACML 2012;
    Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers with bounded error levels", JASA
    114, 2019): for each class, at least the share ``coverage`` of its images has it in the set. This holds
    for new images that are exchangeable with the validation images, if nothing else was fitted on these. If
    they also selected the epochs, the coverage is only a target; ``measured`` states what was reached.
    """

    coverage: float = Field(
        gt=0,
        lt=1,
        examples=[0.9],
        description="Target share of images whose set contains their true class.",
    )
    thresholds: dict[str, Unit] = Field(
        examples=[{"mel": 0.08, "nv": 0.31}],
        description="Threshold of each class, by code: the class belongs to the set if its probability "
        "reaches the threshold.",
    )
    measured: dict[str, Interval] = Field(
        examples=[{"overall": {"value": 0.9, "low": 0.88, "high": 0.92}}],
        description="Coverage measured on the test part: `overall`, and by class code.",
    )
    mean_size: Interval = Field(description="Mean number of classes in a set, measured on the test part.")


class OutOfDistribution(Strict):
    """An image counts as unlike the training data if its ``ood_score`` exceeds the threshold."""

    method: str = Field(
        min_length=1,
        examples=["energy"],
        description="How the graph computes `ood_score`; higher means less like the training data.",
    )
    threshold: float = Field(examples=[-3.1], description="Above it: `out_of_distribution`.")
    quantile: Unit = Field(
        examples=[0.99], description="Share of the validation images at or below the threshold."
    )


class Disagreement(Strict):
    """The members count as disagreeing if the graph's ``disagreement`` exceeds the threshold.

    ``disagreement`` is the weighted mean, over the members, of the total variation distance between the
    member's probabilities and the ensemble's. It ranges from 0 (all agree, or there is one member) to 1.
    """

    threshold: Unit = Field(examples=[0.21], description="Above it: `members_disagree`.")
    quantile: Unit = Field(
        examples=[0.99], description="Share of the validation images at or below the threshold."
    )


class QualityLimits(Strict):
    """Limits of the image quality that ``models.quality`` measures: quantiles of the training images."""

    sharpness_min: float = Field(ge=0, description="Below it: `blurred`.")
    brightness_min: float = Field(ge=0, le=255, description="Below it: `under_exposed`.")
    brightness_max: float = Field(ge=0, le=255, description="Above it: `over_exposed`.")
    contrast_min: float = Field(ge=0, description="Below it: `low_contrast`.")
    clipped_max: Unit = Field(description="Above it: `over_exposed`.")
    quantile: Unit = Field(examples=[0.99], description="Share of the training images within each limit.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.brightness_min >= self.brightness_max:
            raise ValueError(
                f"expected brightness_min < brightness_max, got {self.brightness_min:g} and "
                f"{self.brightness_max:g}"
            )
        return self


class DriftReference(Strict):
    """Predictions on the validation images, with which the service compares those on new images."""

    images: int = Field(gt=0, description="Number of images counted.")
    labels: dict[str, Unit] = Field(
        examples=[{"mel": 0.14, "nv": 0.58}], description="Share of each predicted label, by class code."
    )
    confidence: tuple[Unit, ...] = Field(
        min_length=CONFIDENCE_BINS,
        max_length=CONFIDENCE_BINS,
        description=f"Shares of the images by their largest probability, in {CONFIDENCE_BINS} equal bins "
        "from 0 to 1.",
    )

    @model_validator(mode="after")
    def _shares(self) -> Self:
        check_shares("labels", self.labels)
        check_shares("confidence", self.confidence)
        return self


class Subgroup(Strict):
    """Metrics on one subgroup of the test images."""

    factor: str = Field(
        min_length=1, examples=["sex"], description="The attribute that defines the subgroups."
    )
    value: str = Field(min_length=1, examples=["female"], description="The attribute's value.")
    images: int = Field(gt=0, description="Number of test images in the subgroup.")
    metrics: dict[str, Interval]
