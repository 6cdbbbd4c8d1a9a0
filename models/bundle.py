"""The bundle: one exported model with everything needed to serve it honestly.

A bundle is a folder::

    model.onnx       the graph: uint8 images in, calibrated probabilities and maps out
    manifest.json    what the graph is, how to decide with it, and how good it was measured to be
    MODEL_CARD.md    the same for people
    report/          the evaluation that the manifest's figures come from

``save_bundle`` writes the manifest with the sha256 of every other file; ``load_bundle`` checks
all of them, so that a service never answers from an altered or half-copied model.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import BundleError
from models.preprocess import Color

SCHEMA_VERSION: Literal[1] = 1
MANIFEST_NAME = "manifest.json"
MODEL_NAME = "model.onnx"

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
"""A share or probability."""


class _Strict(BaseModel):
    """No unknown fields, no changes after loading, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ClassInfo(_Strict):
    """One output class, in the order of the graph's columns."""

    code: str = Field(min_length=1, examples=["mel"])
    name: str = Field(min_length=1, examples=["Melanoma"])
    malignant: bool = Field(description="Whether its probability counts towards malignancy.")


class InputSpec(_Strict):
    """What the graph reads: uint8 ``[N, height, width, channels]``, N free."""

    name: str = "image"
    height: int = Field(gt=0, le=4096)
    width: int = Field(gt=0, le=4096)
    color: Color = "rgb"
    crop: Literal["centre"] = Field(
        default="centre", description="Largest centred rectangle of the input's aspect ratio."
    )

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return 3 if self.color == "rgb" else 1


class Member(_Strict):
    """One network of the ensemble."""

    name: str = Field(examples=["mobilenet_v2"])
    weight: Unit = Field(description="Share in the weighted mean of probabilities.")
    temperature: float = Field(gt=0, description="Divides the logits before the softmax.")
    parameters: int = Field(gt=0)


class DecisionRule(_Strict):
    """How ``prediction.label`` follows from the probabilities.

    The label is the class with the largest ``p / prior ** tau``; ``tau`` 0 is arg-max and 1
    removes the training prior (Menon et al., "Long-tail learning via logit adjustment",
    ICLR 2021, eq. 9).
    """

    tau: float = Field(ge=0.0, le=2.0)
    prior: dict[str, Unit] = Field(description="Prevalence of each class in the training data.")


class Interval(_Strict):
    """A measured figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


class OperatingPoint(_Strict):
    """The malignancy threshold, chosen on validation data, and what it gave there."""

    threshold: Unit
    target_sensitivity: Unit
    sensitivity: Interval
    specificity: Interval


class DataSummary(_Strict):
    """What the model was trained and measured on."""

    name: str
    images: dict[str, int] = Field(description="Number of images in each part of the split.")
    lesions: dict[str, int] = Field(description="Number of lesions in each part of the split.")
    citation: str
    licence: str


class Manifest(_Strict):
    """The contents of ``manifest.json``."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", examples=["ham10000-ensemble"])
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$", examples=["1.0.0"])
    created: str = Field(description="UTC date of the export, ISO 8601.")
    git_revision: str = Field(description="Revision of the code that exported it.")
    training_git_revisions: tuple[str, ...] = Field(
        description="Revisions of the code that trained it; several where the training was resumed."
    )
    recipe: str = Field(description="Name of the training recipe.")
    classes: tuple[ClassInfo, ...] = Field(min_length=2)
    input: InputSpec
    outputs: tuple[str, ...] = Field(description="Names of the graph's outputs.")
    members: tuple[Member, ...] = Field(min_length=1)
    decision_rule: DecisionRule
    operating_point: OperatingPoint
    metrics: dict[str, Interval] = Field(description="Measured once, on the test part.")
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
    def _consistent(self) -> Self:
        codes = self.codes
        if len(set(codes)) != len(codes):
            raise ValueError(f"classes: codes must differ, got {', '.join(codes)}")
        if not self.malignant or len(self.malignant) == len(codes):
            raise ValueError("classes: some, and not all, must be malignant")
        prior = self.decision_rule.prior
        if set(prior) != set(codes):
            raise ValueError(
                f"decision_rule.prior: expected the classes {', '.join(codes)}, got {', '.join(prior)}"
            )
        if not math.isclose(sum(prior.values()), 1.0, abs_tol=1e-3) or min(prior.values()) <= 0:
            raise ValueError("decision_rule.prior: expected positive shares that sum to 1")
        weight = sum(m.weight for m in self.members)
        if not math.isclose(weight, 1.0, abs_tol=1e-6):
            raise ValueError(f"members: weights must sum to 1, got {weight:g}")
        missing = {"probabilities", "cams"} - set(self.outputs)
        if missing:
            raise ValueError(f"outputs: {', '.join(sorted(missing))} missing")
        return self


class Bundle(_Strict):
    """A verified bundle on disk."""

    path: Path
    manifest: Manifest

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.path / MODEL_NAME


def load_bundle(path: Path) -> Bundle:
    """Read and verify the bundle in the folder ``path``.

    Verifies the manifest against its schema and every listed file against its sha256. The graph's
    own inputs and outputs are compared with the manifest where it is loaded, by the predictor.

    Raises:
        BundleError: naming the file or field that is wrong, and why.
    """
    manifest_path = path / MANIFEST_NAME
    try:
        text = manifest_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{manifest_path}: cannot be read ({error.__class__.__name__})") from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise BundleError(f"{manifest_path}: {field}: {first['msg']}") from error
    if MODEL_NAME not in manifest.files:
        raise BundleError(f"{manifest_path}: files: {MODEL_NAME} missing")
    root = path.resolve()
    for name, expected in manifest.files.items():
        file = (root / name).resolve()
        if not file.is_relative_to(root):
            raise BundleError(f"{manifest_path}: files: {name} lies outside the bundle")
        try:
            actual = _sha256(file)
        except OSError as error:
            raise BundleError(f"{file}: cannot be read ({error.__class__.__name__})") from error
        if actual != expected:
            raise BundleError(f"{file}: sha256 is {actual}, the manifest says {expected}")
    return Bundle(path=path, manifest=manifest)


def save_bundle(path: Path, manifest: Manifest) -> Bundle:
    """Write ``manifest.json`` with the sha256 of every file already in the folder ``path``.

    Raises:
        BundleError: ``model.onnx`` is not there.
    """
    if not (path / MODEL_NAME).is_file():
        raise BundleError(f"{path / MODEL_NAME}: missing; export the graph before the manifest")
    files = {
        file.relative_to(path).as_posix(): _sha256(file)
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != MANIFEST_NAME
    }
    complete = manifest.model_copy(update={"files": files})
    text = json.dumps(complete.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (path / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")
    return load_bundle(path)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
