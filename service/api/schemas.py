"""The JSON of every answer, as the API contract states it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

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
    OperatingPoint,
    OutOfDistribution,
    PredictionSets,
    QualityLimits,
    Subgroup,
)
from models.predictive import predictive_values_of
from service.http.problems import Problem
from service.inference.classifier import Classification


class ModelName(BaseModel):
    """Which model answered."""

    name: str = Field(examples=["ham10000-ensemble"])
    version: str = Field(examples=["1.0.0"])


class PredictedClass(BaseModel):
    """The class that the bundle's decision rule picks."""

    label: str = Field(examples=["mel"])
    name: str = Field(examples=["Melanoma"])
    probability: float = Field(ge=0, le=1)


class Malignancy(BaseModel):
    """The sum over malignant classes, against the bundle's operating point."""

    flag: Literal["malignant", "benign"] = Field(
        description="`malignant` when `probability` reaches `threshold`."
    )
    probability: float = Field(ge=0, le=1)
    threshold: float = Field(ge=0, le=1, description="Chosen on validation data for sensitivity.")


class PredictionSet(BaseModel):
    """Classes among which the true one is meant to be, see `prediction_sets` of `GET /model`."""

    coverage: float = Field(
        gt=0,
        lt=1,
        description="Share of images like the validation images whose set is meant to hold their true class.",
    )
    labels: list[str] = Field(
        min_length=1,
        description="Codes by falling probability. The predicted label and the most probable class are "
        "always among them, whether or not they reach their thresholds.",
    )


class Uncertainty(BaseModel):
    """How sure the answer is."""

    entropy: float = Field(
        ge=0,
        le=1,
        description="Shannon entropy of the probabilities over that of equal ones: 0 when one class is "
        "certain, 1 when all are equally likely.",
    )
    disagreement: float = Field(
        ge=0,
        le=1,
        description="Weighted mean of the total variation distances between the probabilities of the "
        "ensemble's members and its own: 0 when all agree.",
    )
    ood_score: float = Field(
        description="How unlike the training data the image is, by the method that `GET /model` names; "
        "higher is stranger."
    )
    ood_threshold: float = Field(description="Over it the answer has the warning `out_of_distribution`.")


class ImageWarning(BaseModel):
    """What a reader should know of this image."""

    model_config = ConfigDict(title="Warning")

    code: str = Field(
        description="Of the file: `low_resolution`, `multiple_frames`, `burned_in_annotation`, "
        "`color_profile_ignored`. Of the picture: `blurred`, `under_exposed`, `over_exposed`, "
        "`low_contrast`. Of the answer: `out_of_distribution`, `members_disagree`, "
        "`flag_label_disagree`, `empty_heatmap`. More may come.",
        examples=["blurred"],
    )
    detail: str = Field(description="What was seen and what to do, for people.")


class GradCam(BaseModel):
    """A class activation map laid over the picture that the model saw."""

    label: str = Field(description="The class whose evidence is shown.", examples=["mel"])
    media_type: Literal["image/png"] = "image/png"
    data: str = Field(description="The picture, base64.")


class Prediction(BaseModel):
    """Everything said of one image."""

    request_id: str
    model: ModelName
    probabilities: dict[str, float] = Field(
        description="Calibrated probability of every class by code, summing to 1, at the prevalence of "
        "the training data."
    )
    prediction: PredictedClass
    malignancy: Malignancy
    prediction_set: PredictionSet
    uncertainty: Uncertainty
    warnings: list[ImageWarning] = Field(description="Empty when there is nothing to say.")
    gradcam: GradCam | None = Field(description="Null unless asked for.")


_Index = Annotated[int, Field(ge=0, description="Position of the image in the request, from 0 on.")]
_Filename = Annotated[
    str | None, Field(description="The part's file name as it was sent, for the client alone; else null.")
]


class PredictionResult(Prediction):
    """One image of a batch that got an answer."""

    kind: Literal["prediction"]
    index: _Index
    filename: _Filename


class ProblemResult(Problem):
    """One image of a batch that got none."""

    kind: Literal["problem"]
    index: _Index
    filename: _Filename


class BatchPrediction(BaseModel):
    """One result for each image, in the order sent."""

    results: list[Annotated[PredictionResult | ProblemResult, Field(discriminator="kind")]]


class FlagValue(BaseModel):
    """What the flag is worth where the share `prevalence` of all lesions is malignant."""

    prevalence: float = Field(ge=0, le=1, description="Share of all lesions that are malignant.")
    positive: float | None = Field(
        ge=0, le=1, description="Share of the flagged lesions that are malignant; null where none is flagged."
    )
    negative: float | None = Field(
        ge=0, le=1, description="Share of the others that are benign; null where all are flagged."
    )


class ModelCard(BaseModel):
    """What the model being served is, from its manifest."""

    name: str
    version: str
    created: str = Field(description="UTC date of the export, ISO 8601.")
    git_revision: str
    provider: str = Field(description="What runs the model.", examples=["CPUExecutionProvider"])
    classes: list[ClassInfo]
    malignant: list[str] = Field(description="Codes of the malignant classes.")
    input: InputSpec
    members: list[Member]
    combination: Combination = Field(
        description="How the members become one answer: the weighted `mean` of their probabilities, a "
        "majority `vote`, or `specialists` that decide again between classes that the first member confuses."
    )
    decision_rule: DecisionRule
    operating_point: OperatingPoint
    predictive_values: list[FlagValue] = Field(
        description="What the flag is worth: first at the prevalence of the test part, where the bundle "
        "states it, last at 5 %. By Bayes' theorem from the sensitivity and specificity in `metrics`, or "
        "else of the operating point."
    )
    prediction_sets: PredictionSets
    out_of_distribution: OutOfDistribution
    disagreement: Disagreement
    quality: QualityLimits
    metrics: dict[str, Interval] = Field(description="Measured once, on the test part.")
    subgroups: list[Subgroup] = Field(
        description="The same for groups of the test images; empty where the data names none."
    )
    drift_reference: DriftReference
    licence: str
    citation: str
    intended_use: str
    limits: list[str]


class Reloaded(BaseModel):
    """Which model served before the reload, and which does from it on."""

    old: ModelName = Field(examples=[{"name": "ham10000-ensemble", "version": "1.0.0"}])
    new: ModelName = Field(examples=[{"name": "ham10000-ensemble", "version": "1.2.1"}])


class Alive(BaseModel):
    """The process is up."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """The model is loaded and warmed up, and work is taken."""

    status: Literal["ready"] = "ready"
    model: ModelName
    provider: str = Field(examples=["CPUExecutionProvider"])


def model_name(manifest: Manifest) -> ModelName:
    """Which model answers."""
    return ModelName(name=manifest.name, version=manifest.version)


def card_of(manifest: Manifest, provider: str) -> bytes:
    """JSON of ``ModelCard``: the model of ``manifest``, run by ONNX Runtime's ``provider``."""
    own = {
        "provider": provider,
        "predictive_values": [FlagValue(**at._asdict()) for at in predictive_values_of(manifest)],
    }
    facts = {name: getattr(manifest, name) for name in ModelCard.model_fields if name not in own}
    return ModelCard.model_validate(facts | own).model_dump_json().encode()


def prediction_of(manifest: Manifest, found: Classification, request_id: str) -> Prediction:
    """What is said of one image, without an overlay."""
    decision = found.decision
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
            threshold=manifest.operating_point.threshold,
        ),
        prediction_set=PredictionSet(
            coverage=manifest.prediction_sets.coverage, labels=list(decision.prediction_set)
        ),
        uncertainty=Uncertainty(
            **found.uncertainty._asdict(), ood_threshold=manifest.out_of_distribution.threshold
        ),
        warnings=[ImageWarning(**warning._asdict()) for warning in found.warnings],
        gradcam=None,
    )
