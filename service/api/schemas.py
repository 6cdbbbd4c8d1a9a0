"""The JSON schemas of all responses, and the functions that build responses from results."""

import base64
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from models.bundle import (
    ClassInfo,
    Combination,
    DecisionRule,
    Disagreement,
    DriftReference,
    InputSpec,
    Interval,
    Manifest,
    Member,
    Metadata,
    MetadataInput,
    OperatingPoint,
    OutOfDistribution,
    PredictionSets,
    QualityLimits,
    Subgroup,
)
from models.manifest.predictive import predictive_values_of
from models.preprocess import ACCEPTED_FORMATS
from service.http.problems import Problem
from service.inference.classifier import Classification
from service.inference.overlay import Overlay
from service.inference.warnings import EMPTY_HEATMAP


class ModelName(BaseModel):
    """Name and version of a model."""

    name: str = Field(examples=["ham10000-ensemble"])
    version: str = Field(examples=["1.0.0"])


class PredictedClass(BaseModel):
    """The class that the bundle's decision rule picks."""

    label: str = Field(examples=["mel"])
    name: str = Field(examples=["Melanoma"])
    probability: float = Field(ge=0, le=1)


class Malignancy(BaseModel):
    """The sum over the malignant classes, and the flag at the bundle's operating point."""

    flag: Literal["malignant", "benign"] = Field(
        description="`malignant` if `probability` reaches `threshold`."
    )
    probability: float = Field(ge=0, le=1)
    threshold: float = Field(
        ge=0,
        le=1,
        description="Chosen on validation data for a target sensitivity. Images with `metadata_used` may "
        "have another threshold than images without.",
    )


class PredictionSet(BaseModel):
    """A set of classes that should contain the true one, see `prediction_sets` of `GET /model`."""

    coverage: float = Field(
        gt=0,
        lt=1,
        description="Target share of images like the validation images whose set contains their true class.",
    )
    labels: list[str] = Field(
        min_length=1,
        description="Codes in descending order of probability. The set always contains the predicted label "
        "and the most probable class, even if they do not reach their thresholds.",
    )


class Uncertainty(BaseModel):
    """Uncertainty of the prediction."""

    entropy: float = Field(
        ge=0,
        le=1,
        description="Normalized Shannon entropy of the probabilities: 0 if one class is certain, 1 if all "
        "are equally likely.",
    )
    disagreement: float = Field(
        ge=0,
        le=1,
        description="Weighted mean total variation distance between the probabilities of each member and "
        "those of the ensemble: 0 if all members agree.",
    )
    ood_score: float = Field(
        description="Out-of-distribution score by the method in `GET /model`. Higher is less like the "
        "training data."
    )
    ood_threshold: float = Field(
        description="An `ood_score` above it adds the warning `out_of_distribution`."
    )


class ImageWarning(BaseModel):
    """A warning about the image or its prediction."""

    model_config = ConfigDict(title="Warning")

    code: str = Field(
        description="About the file: `low_resolution`, `multiple_frames`, `burned_in_annotation`, "
        "`color_profile_ignored`. About the image: `blurred`, `under_exposed`, `over_exposed`, "
        "`low_contrast`. About the prediction: `out_of_distribution`, `members_disagree`, "
        "`flag_label_disagree`. About the overlay: `empty_heatmap`, and in a batch `overlay_omitted`. Later "
        "versions may add codes.",
        examples=["blurred"],
    )
    detail: str = Field(description="What was found and what to do, for people.")


class GradCam(BaseModel):
    """A class activation map drawn over the image as the model read it."""

    label: str = Field(description="Code of the class whose evidence is shown.", examples=["mel"])
    media_type: Literal["image/png"] = "image/png"
    data: str = Field(description="The image, in base64.")


class Prediction(BaseModel):
    """The result for one image."""

    request_id: str
    model: ModelName
    probabilities: dict[str, float] = Field(
        description="Calibrated probability of each class, by code. The probabilities sum to 1 and assume "
        "the prevalence of the training data."
    )
    prediction: PredictedClass
    malignancy: Malignancy
    prediction_set: PredictionSet
    uncertainty: Uncertainty
    warnings: list[ImageWarning] = Field(description="Empty if there are none.")
    metadata_used: Metadata | None = Field(
        description="The `age`, `sex` and `site` of the request that the model used. Null if it used the "
        "image alone: nothing was sent, or the model does not read metadata."
    )
    gradcam: GradCam | None = Field(
        description="Null if it was not requested, or if there is the warning `overlay_omitted`."
    )


_Index = Annotated[int, Field(ge=0, description="Position of the image in the request, from 0.")]
_Filename = Annotated[
    str | None, Field(description="The file name in the part, as the client sent it, or null.")
]


class PredictionResult(Prediction):
    """An image of a batch that was classified."""

    kind: Literal["prediction"]
    index: _Index
    filename: _Filename


class ProblemResult(Problem):
    """An image of a batch that could not be classified."""

    kind: Literal["problem"]
    index: _Index
    filename: _Filename


class BatchPrediction(BaseModel):
    """One result for each image, in the order of the request."""

    results: list[Annotated[PredictionResult | ProblemResult, Field(discriminator="kind")]]


class FlagValue(BaseModel):
    """Predictive values of the flag at one prevalence of malignant lesions."""

    prevalence: float = Field(ge=0, le=1, description="Share of all lesions that are malignant.")
    positive: float | None = Field(
        ge=0,
        le=1,
        description="Positive predictive value: share of the flagged lesions that are malignant. Null if "
        "none is flagged.",
    )
    negative: float | None = Field(
        ge=0,
        le=1,
        description="Negative predictive value: share of the other lesions that are benign. Null if all are "
        "flagged.",
    )


class RequestLimits(BaseModel):
    """The limits of this server. Other servers of the same model may have others."""

    max_body_bytes: int = Field(description="Larger bodies get 413.", examples=[20_000_000])
    max_pixels: int = Field(
        description="Images with a larger product of width and height get 413.", examples=[64_000_000]
    )
    max_images: int = Field(description="Images of one `POST /predict/batch`.", examples=[32])
    timeout_seconds: float = Field(
        description="Requests that take longer get 408 or 504.", examples=[30.0], gt=0
    )


class ModelCard(BaseModel):
    """Facts about the served model, from its manifest, and what this server accepts."""

    name: str
    version: str
    created: str = Field(description="UTC date of the export, ISO 8601.")
    git_revision: str
    provider: str = Field(description="ONNX Runtime's execution provider.", examples=["CPUExecutionProvider"])
    classes: list[ClassInfo]
    malignant: list[str] = Field(description="Codes of the malignant classes.")
    input: InputSpec
    metadata: MetadataInput | SkipJsonSchema[None] = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="How the model uses age, sex and site, with the operating point and prediction sets that "
        "apply then. Absent if it reads only images.",
    )
    members: list[Member]
    combination: Combination = Field(
        description="How the predictions of the members are combined: the weighted `mean` of their "
        "probabilities, a majority `vote`, or `specialists` that decide between the classes that the first "
        "member confuses."
    )
    decision_rule: DecisionRule
    operating_point: OperatingPoint
    predictive_values: list[FlagValue] = Field(
        description="Predictive values of the flag, at the prevalence of the test part (if the bundle states "
        "it) and at 5 %. Computed by Bayes' theorem from the sensitivity and specificity in `metrics`, or in "
        "`operating_point` if `metrics` lacks them."
    )
    prediction_sets: PredictionSets
    out_of_distribution: OutOfDistribution
    disagreement: Disagreement
    quality: QualityLimits
    metrics: dict[str, Interval] = Field(
        description="Measured on the test part, which may also have scored earlier versions of the model. "
        "They apply to the predicted label, except those named `argmax`. In bundles up to 1.2.1, `accuracy` "
        "applies to the most probable class."
    )
    subgroups: list[Subgroup] = Field(
        description="The same metrics for groups of test images. Empty if the data defines no groups."
    )
    drift_reference: DriftReference
    licence: str
    citation: str
    intended_use: str
    limits: list[str]
    formats: list[str] = Field(
        description="Media types of the image formats that this server accepts.",
        examples=[["image/jpeg", "image/png"]],
    )
    request_limits: RequestLimits


class Reloaded(BaseModel):
    """The models before and after the reload."""

    old: ModelName = Field(examples=[{"name": "ham10000-ensemble", "version": "1.0.0"}])
    new: ModelName = Field(examples=[{"name": "ham10000-ensemble", "version": "1.3.0"}])


class Alive(BaseModel):
    """The process works."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """The model is loaded, and the service accepts requests."""

    status: Literal["ready"] = "ready"
    model: ModelName
    provider: str = Field(examples=["CPUExecutionProvider"])


def model_name(manifest: Manifest) -> ModelName:
    """Name and version in ``manifest``."""
    return ModelName(name=manifest.name, version=manifest.version)


def model_card_json(manifest: Manifest, provider: str, limits: RequestLimits) -> bytes:
    """Build the JSON of ``ModelCard``.

    Args:
        manifest: of the served model.
        provider: name of the execution provider.
        limits: of this server.
    """
    computed = {
        "provider": provider,
        "formats": list(ACCEPTED_FORMATS.values()),
        "request_limits": limits,
        "predictive_values": [FlagValue(**at._asdict()) for at in predictive_values_of(manifest)],
    }
    facts = {name: getattr(manifest, name) for name in ModelCard.model_fields if name not in computed}
    return ModelCard.model_validate(facts | computed).model_dump_json().encode()


def prediction_of(manifest: Manifest, classification: Classification, request_id: str) -> Prediction:
    """Build the response for one image, without an overlay."""
    decision = classification.decision
    names = {c.code: c.name for c in manifest.classes}
    return Prediction(
        request_id=request_id,
        model=model_name(manifest),
        probabilities=decision.probabilities,
        prediction=PredictedClass(
            label=decision.label,
            name=names[decision.label],
            probability=decision.probabilities[decision.label],
        ),
        malignancy=Malignancy(
            flag=decision.flag,
            probability=decision.malignancy,
            threshold=decision.threshold,
        ),
        prediction_set=PredictionSet(coverage=decision.coverage, labels=list(decision.prediction_set)),
        uncertainty=Uncertainty(
            **classification.uncertainty._asdict(), ood_threshold=manifest.out_of_distribution.threshold
        ),
        warnings=[ImageWarning(**warning._asdict()) for warning in classification.warnings],
        metadata_used=classification.metadata_used,
        gradcam=None,
    )


def add_overlay(prediction: Prediction, overlay: Overlay, code: str) -> None:
    """Add ``overlay``, drawn for the class ``code``, to ``prediction``."""
    prediction.gradcam = GradCam(label=code, data=base64.b64encode(overlay.png).decode())
    if overlay.empty:
        prediction.warnings.append(ImageWarning(**EMPTY_HEATMAP._asdict()))
