"""What a manifest says so that one answer can be doubted: sets, limits and references.

Training fitted all of it, the limits of picture quality on training images and the rest on validation
images, and measured the sets on the test part. The service only compares: it invents no threshold.
"""

from typing import Self

from pydantic import Field, model_validator

from models.fields import Interval, Strict, Unit, check_shares

CONFIDENCE_BINS = 10
"""Equal bins of [0, 1] that ``DriftReference.confidence`` counts in; the last one holds 1."""


class PredictionSets(Strict):
    """Which classes are kept in an answer, so that the true one is among them at a stated rate.

    A class belongs to an image's set when its probability reaches the class's threshold; the
    predicted label and the most probable class always belong. Thresholds are those of split conformal
    prediction, conditional on the class and fitted for these sets: of each class's own images, at least
    the share ``coverage`` has it in its set (Vovk, "Conditional validity of inductive conformal
    predictors", ACML 2012; Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers with
    bounded error levels", JASA 114, 2019). That holds for new images that are exchangeable with the
    validation images, if these chose nothing else. Where they also chose the epochs, it is an aim, and
    ``measured`` says what came of it.
    """

    coverage: float = Field(
        gt=0, lt=1, examples=[0.9], description="Share of images whose set is meant to hold their true class."
    )
    thresholds: dict[str, Unit] = Field(
        examples=[{"mel": 0.08, "nv": 0.31}],
        description="By class code: the class belongs to the set when its probability reaches this.",
    )
    measured: dict[str, Interval] = Field(
        examples=[{"overall": {"value": 0.9, "low": 0.88, "high": 0.92}}],
        description="Coverage measured on the test part: `overall`, and by class code.",
    )
    mean_size: Interval = Field(description="Mean number of classes in a set, measured on the test part.")


class OutOfDistribution(Strict):
    """When an image counts as unlike the training data: its ``ood_score`` is over the threshold."""

    method: str = Field(
        min_length=1,
        examples=["energy"],
        description="How the graph computes `ood_score`, where higher is stranger.",
    )
    threshold: float = Field(examples=[-3.1], description="Over it: `out_of_distribution`.")
    quantile: Unit = Field(
        examples=[0.99], description="Share of the validation images at or under the threshold."
    )


class Disagreement(Strict):
    """When the members count as disagreeing: their disagreement is over the threshold.

    The graph's ``disagreement`` is the weighted mean, over the members, of the total variation
    distance between the member's probabilities and the ensemble's: 0 when all agree (or there is
    one), 1 at most.
    """

    threshold: Unit = Field(examples=[0.21], description="Over it: `members_disagree`.")
    quantile: Unit = Field(
        examples=[0.99], description="Share of the validation images at or under the threshold."
    )


class QualityLimits(Strict):
    """Between which figures the quality of a picture is usual; see ``models.quality`` for the figures.

    They are quantiles of the training images, because none of these figures means anything by itself.
    """

    sharpness_min: float = Field(ge=0, description="Below it: `blurred`.")
    brightness_min: float = Field(ge=0, le=255, description="Below it: `under_exposed`.")
    brightness_max: float = Field(ge=0, le=255, description="Above it: `over_exposed`.")
    contrast_min: float = Field(ge=0, description="Below it: `low_contrast`.")
    clipped_max: Unit = Field(description="Above it: `over_exposed`.")
    quantile: Unit = Field(
        examples=[0.99], description="Share of the training images on the good side of each limit."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.brightness_min >= self.brightness_max:
            raise ValueError(
                f"expected brightness_min < brightness_max, got {self.brightness_min:g} and "
                f"{self.brightness_max:g}"
            )
        return self


class DriftReference(Strict):
    """What the model said of its validation images, to compare a clinic's images with."""

    images: int = Field(gt=0, description="Number of images counted.")
    labels: dict[str, Unit] = Field(
        examples=[{"mel": 0.14, "nv": 0.58}], description="Share of each predicted label, by class code."
    )
    confidence: tuple[Unit, ...] = Field(
        min_length=CONFIDENCE_BINS,
        max_length=CONFIDENCE_BINS,
        description=f"Shares of the images by their largest probability, in {CONFIDENCE_BINS} equal bins of "
        "0 to 1.",
    )

    @model_validator(mode="after")
    def _shares(self) -> Self:
        check_shares("labels", self.labels)
        check_shares("confidence", self.confidence)
        return self


class Subgroup(Strict):
    """How good the model was measured to be on one group of the test images."""

    factor: str = Field(min_length=1, examples=["sex"], description="What the groups differ in.")
    value: str = Field(min_length=1, examples=["female"], description="Which group this is.")
    images: int = Field(gt=0, description="Number of test images in it.")
    metrics: dict[str, Interval]
