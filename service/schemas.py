"""The JSON of every answer, as the API contract states it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models.bundle import ClassInfo, DecisionRule, InputSpec, Interval, OperatingPoint


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


class ImageWarning(BaseModel):
    """What a reader should know of this image."""

    model_config = ConfigDict(title="Warning")

    code: str = Field(examples=["low_resolution"])
    detail: str


class GradCam(BaseModel):
    """A class activation map laid over the picture that the model saw."""

    label: str = Field(description="The class whose evidence is shown.", examples=["mel"])
    media_type: Literal["image/png"] = "image/png"
    data: str = Field(description="The picture, base64.")


class Prediction(BaseModel):
    """Everything said of one image."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "request_id": "01K6X5V7Q2M3N4P5R6S7T8V9WA",
                "model": {"name": "ham10000-ensemble", "version": "1.0.0"},
                "probabilities": {
                    "akiec": 0.01, "bcc": 0.02, "bkl": 0.05, "df": 0.0, "mel": 0.62, "nv": 0.29, "vasc": 0.01
                },
                "prediction": {"label": "mel", "name": "Melanoma", "probability": 0.62},
                "malignancy": {"flag": "malignant", "probability": 0.65, "threshold": 0.21},
                "warnings": [],
                "gradcam": None,
            }
        }
    )  # fmt: skip

    request_id: str
    model: ModelName
    probabilities: dict[str, float] = Field(
        description="Calibrated probability of every class by code, summing to 1, at the prevalence of "
        "the training data."
    )
    prediction: PredictedClass
    malignancy: Malignancy
    warnings: list[ImageWarning] = Field(description="Empty when there is nothing to say.")
    gradcam: GradCam | None = Field(description="Null unless asked for.")


class Problem(BaseModel):
    """An error, as RFC 9457 (`application/problem+json`)."""

    type: str = Field(examples=["urn:dermaserve:problem:corrupt-image"])
    title: str = Field(examples=["Image is truncated or damaged"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["The JPEG image is truncated or damaged and cannot be decoded."])
    request_id: str


class BatchPrediction(BaseModel):
    """One result for each image, in the order sent."""

    results: list[Prediction | Problem]


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
    decision_rule: DecisionRule
    operating_point: OperatingPoint
    metrics: dict[str, Interval] = Field(description="Measured once, on the test part.")
    licence: str
    citation: str
    intended_use: str
    limits: list[str]


class Alive(BaseModel):
    """The process is up."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """The model is loaded and warmed up, and work is taken."""

    status: Literal["ready"] = "ready"
    model: ModelName
    provider: str = Field(examples=["CPUExecutionProvider"])
