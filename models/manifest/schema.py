"""The manifest of a bundle: the graph's interface, the decision rule and the measured metrics."""

from typing import Literal, Self

from pydantic import Field, model_validator

from models.manifest.fields import Interval, Strict, Unit, check_keys, check_shares
from models.manifest.metadata import MetadataInput
from models.manifest.safeguards import (
    Disagreement,
    DriftReference,
    OutOfDistribution,
    PredictionSets,
    QualityLimits,
    Subgroup,
)
from models.scaling import Color

SCHEMA_VERSION: Literal[2] = 2

REQUIRED_OUTPUTS = ("probabilities", "cams", "disagreement", "ood_score")
"""The outputs that every graph has; ``Manifest`` describes them."""

MIN_SIDE = 3
"""Smallest height and width of the input in pixels: sharpness is measured with a 3 × 3 kernel."""

Combination = Literal["mean", "vote", "specialists"]
"""How the members' outputs are combined: by the weighted mean of their probabilities, by a majority vote, or
by specialists, which decide between the classes that the first member confuses."""


class ClassInfo(Strict):
    """A class that the model distinguishes. The order of the classes is that of the graph's columns."""

    # The pattern keeps a code valid in headers and query strings, and in a list within a cell of a table.
    code: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", examples=["mel"])
    name: str = Field(min_length=1, examples=["Melanoma"])
    malignant: bool = Field(description="Whether its probability counts towards malignancy.")


class InputSpec(Strict):
    """The graph's input: uint8 ``[N, height, width, channels]``, with any N."""

    name: str = "image"
    height: int = Field(ge=MIN_SIDE, le=4096)
    width: int = Field(ge=MIN_SIDE, le=4096)
    color: Color = "rgb"
    crop: Literal["centre"] = Field(
        default="centre", description="Largest centred rectangle of the input's aspect ratio."
    )

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return 3 if self.color == "rgb" else 1


class Member(Strict):
    """One network of the ensemble."""

    name: str = Field(examples=["mobilenet_v2"])
    weight: Unit = Field(description="Share in the combination and in the disagreement.")
    temperature: float = Field(gt=0, description="Divides the logits before the softmax.")
    parameters: int = Field(gt=0)
    classes: tuple[str, ...] = Field(
        default=(),
        description="Codes between which a specialist decides; empty if the member predicts all classes.",
    )


class DecisionRule(Strict):
    """How ``prediction.label`` follows from the probabilities.

    The label is the class with the largest ``p / prior ** tau``; ``tau`` 0 is arg-max and 1
    removes the training prior (Menon et al., "Long-tail learning via logit adjustment",
    ICLR 2021, eq. 9).
    """

    tau: float = Field(ge=0.0, le=2.0)
    prior: dict[str, Unit] = Field(description="Prevalence of each class in the training data.")


class OperatingPoint(Strict):
    """The malignancy threshold, chosen on validation data, with its sensitivity and specificity there."""

    threshold: Unit
    target_sensitivity: Unit
    sensitivity: Interval
    specificity: Interval


class DataSummary(Strict):
    """The data on which the model was trained and evaluated."""

    name: str
    images: dict[str, int] = Field(description="Number of images in each part of the split.")
    lesions: dict[str, int] = Field(description="Number of lesions in each part of the split.")
    citation: str
    licence: str


class Manifest(Strict):
    """The contents of ``manifest.json``.

    The graph's inputs are ``input`` and, if there is one, ``metadata``. Its outputs are
    float32, for N images and K classes:

    - ``probabilities`` ``[N, K]``: calibrated, each row sums to 1;
    - ``cams`` ``[N, K, h, w]``: one class activation map for each class;
    - ``disagreement`` ``[N]``: from 0 to 1, see ``Disagreement``;
    - ``ood_score`` ``[N]``: see ``OutOfDistribution``.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", examples=["ham10000-ensemble"])
    version: str = Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$", examples=["1.0.0"])
    created: str = Field(description="UTC date of the export, ISO 8601.")
    git_revision: str = Field(description="Revision of the code that exported it.")
    training_git_revisions: tuple[str, ...] = Field(
        description="Revisions of the code that trained it; several if the training was resumed."
    )
    recipe: str = Field(description="Name of the training recipe.")
    classes: tuple[ClassInfo, ...] = Field(min_length=2)
    input: InputSpec
    metadata: MetadataInput | None = Field(
        default=None,
        description="The second input: age, sex and body site. Null if the model reads only images.",
    )
    outputs: tuple[str, ...] = Field(description="Names of the graph's outputs.")
    members: tuple[Member, ...] = Field(min_length=1)
    combination: Combination
    decision_rule: DecisionRule
    operating_point: OperatingPoint
    prediction_sets: PredictionSets
    out_of_distribution: OutOfDistribution
    disagreement: Disagreement
    quality: QualityLimits
    metrics: dict[str, Interval] = Field(
        description="Measured on the test part, which earlier versions of the model may have been scored on, "
        "too. Of the label that the answers give, except those named `argmax`; in bundles up to 1.2.1 "
        "`accuracy` is of the most probable class, too."
    )
    subgroups: tuple[Subgroup, ...] = Field(
        description="Metrics of subgroups of the test images; empty if the data defines no subgroups."
    )
    drift_reference: DriftReference
    data: DataSummary
    licence: str = Field(description="Licence of the model itself.")
    citation: str
    intended_use: str
    limits: tuple[str, ...]
    files: dict[str, str] = Field(
        default_factory=dict, description="sha256 of every other file of the bundle, by path."
    )

    @property
    def codes(self) -> tuple[str, ...]:
        """Class codes in the order of the graph's columns."""
        return tuple(c.code for c in self.classes)

    @property
    def malignant(self) -> tuple[str, ...]:
        """Codes of the malignant classes."""
        return tuple(c.code for c in self.classes if c.malignant)

    @model_validator(mode="after")
    def _model_is_consistent(self) -> Self:
        codes = self.codes
        if len(set(codes)) != len(codes):
            raise ValueError(f"classes: codes must differ, got {', '.join(codes)}")
        if not self.malignant or len(self.malignant) == len(codes):
            raise ValueError("classes: expected both malignant and benign classes")
        prior = self.decision_rule.prior
        check_keys("decision_rule.prior", prior, codes)
        check_shares("decision_rule.prior", prior)
        if min(prior.values()) <= 0:
            raise ValueError("decision_rule.prior: expected shares above 0")
        names = [m.name for m in self.members]
        if len(set(names)) != len(names):
            raise ValueError(f"members: names must differ, got {', '.join(names)}")
        for index, member in enumerate(self.members):
            if bool(member.classes) != (self.combination == "specialists" and index > 0):
                raise ValueError(
                    f"members.{index}.classes: only specialists list classes, and the first member is none"
                )
            if unknown := set(member.classes) - set(codes):
                raise ValueError(
                    f"members.{index}.classes: {', '.join(sorted(unknown))} missing from classes"
                )
        weight = sum(m.weight for m in self.members)
        if abs(weight - 1.0) > 1e-6:
            raise ValueError(f"members: weights must sum to 1, got {weight:g}")
        missing = [name for name in REQUIRED_OUTPUTS if name not in self.outputs]
        if missing:
            raise ValueError(f"outputs: {', '.join(missing)} missing")
        return self

    @model_validator(mode="after")
    def _safeguards_are_consistent(self) -> Self:
        codes, sets = self.codes, self.prediction_sets
        check_keys("prediction_sets.thresholds", sets.thresholds, codes)
        check_keys("prediction_sets.measured", sets.measured, ("overall", *codes))
        if not 1 <= sets.mean_size.value <= len(codes):
            raise ValueError(
                f"prediction_sets.mean_size: expected 1 to {len(codes)}, got {sets.mean_size.value:g}"
            )
        check_keys("drift_reference.labels", self.drift_reference.labels, codes)
        if self.metadata is not None:
            self.metadata.check(codes)
            if self.metadata.name == self.input.name:
                raise ValueError(
                    f"metadata.name: expected a name other than that of the image input, {self.input.name}"
                )
        groups = [(group.factor, group.value) for group in self.subgroups]
        for factor, value in groups:
            if groups.count((factor, value)) > 1:
                raise ValueError(f"subgroups: {factor} {value} occurs more than once")
        return self
