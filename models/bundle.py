"""The bundle: an exported model, its decision rule and its measured performance, in one folder.

A bundle holds::

    model.onnx       the graph: uint8 images in, calibrated probabilities and class activation maps out
    manifest.json    the graph's interface, the decision rule and the measured metrics
    MODEL_CARD.md    the same information as text
    report/          the evaluation from which the manifest's metrics come

``save_bundle`` writes the manifest with the sha256 of every other file. ``load_bundle`` checks every
sha256, so a service never loads an altered or incomplete model. This module re-exports all parts of
the manifest.
"""

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from models.errors import BundleError
from models.manifest.fields import Interval, Strict, Unit
from models.manifest.metadata import NO_METADATA, Metadata, MetadataInput
from models.manifest.safeguards import (
    CONFIDENCE_BINS,
    Disagreement,
    DriftReference,
    OutOfDistribution,
    PredictionSets,
    QualityLimits,
    Subgroup,
)
from models.manifest.schema import (
    REQUIRED_OUTPUTS,
    SCHEMA_VERSION,
    ClassInfo,
    Combination,
    DataSummary,
    DecisionRule,
    InputSpec,
    Manifest,
    Member,
    OperatingPoint,
)

__all__ = [
    "CONFIDENCE_BINS",
    "MANIFEST_NAME",
    "MODEL_NAME",
    "NO_METADATA",
    "REQUIRED_OUTPUTS",
    "SCHEMA_VERSION",
    "Bundle",
    "ClassInfo",
    "Combination",
    "DataSummary",
    "DecisionRule",
    "Disagreement",
    "DriftReference",
    "InputSpec",
    "Interval",
    "Manifest",
    "Member",
    "Metadata",
    "MetadataInput",
    "OperatingPoint",
    "OutOfDistribution",
    "PredictionSets",
    "QualityLimits",
    "Subgroup",
    "Unit",
    "load_bundle",
    "save_bundle",
]

MANIFEST_NAME = "manifest.json"
MODEL_NAME = "model.onnx"


class Bundle(Strict):
    """A verified bundle on disk.

    Attributes:
        path: the bundle's folder.
        manifest: its verified manifest.
        digest: sha256 of ``manifest.json``. It identifies the whole bundle, because the manifest holds the
            sha256 of every other file.
    """

    path: Path
    manifest: Manifest
    digest: str

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.path / MODEL_NAME


def load_bundle(path: Path) -> Bundle:
    """Read and verify the bundle in the folder ``path``.

    Verifies the manifest against its schema and every listed file against its sha256. It does not open
    the graph: whoever loads the graph compares its inputs and outputs with the manifest.

    Raises:
        BundleError: a file or a field is wrong; the message names it and the reason.
    """
    manifest_path = path / MANIFEST_NAME
    try:
        text = manifest_path.read_bytes()
    except OSError as error:
        raise _unreadable(manifest_path, MANIFEST_NAME, error) from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise _schema_error(manifest_path, error) from error
    if MODEL_NAME not in manifest.files:
        raise _wrong(manifest_path, MANIFEST_NAME, f"files: {MODEL_NAME} missing")
    root = path.resolve()
    for name, expected in manifest.files.items():
        file = (root / name).resolve()
        if not file.is_relative_to(root):
            raise _wrong(manifest_path, MANIFEST_NAME, f"files: {name} lies outside the bundle")
        if file.exists() and not file.is_file():
            raise _wrong(file, name, "not a regular file")  # reading a pipe would block forever
        try:
            actual = _sha256(file)
        except OSError as error:
            raise _unreadable(file, name, error) from error
        if actual != expected:
            raise _wrong(file, name, f"sha256 is {actual}, but the manifest lists {expected}")
    return Bundle(path=path, manifest=manifest, digest=hashlib.sha256(text).hexdigest())


def save_bundle(path: Path, manifest: Manifest) -> Bundle:
    """Write ``manifest.json`` with the sha256 of every file already in the folder ``path``.

    Returns:
        The bundle, as ``load_bundle`` reads it back.

    Raises:
        BundleError: ``model.onnx`` is missing, or the bundle fails verification.
    """
    if not (path / MODEL_NAME).is_file():
        raise BundleError(f"{path / MODEL_NAME}: missing; export the graph before writing the manifest")
    files = {
        file.relative_to(path).as_posix(): _sha256(file)
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != MANIFEST_NAME
    }
    complete = manifest.model_copy(update={"files": files})
    text = json.dumps(complete.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (path / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")
    return load_bundle(path)


def _wrong(file: Path, name: str, what: str) -> BundleError:
    return BundleError(f"{file}: {what}", public=f"{name}: {what}")


def _unreadable(file: Path, name: str, error: OSError) -> BundleError:
    return BundleError(
        f"{file}: cannot be read ({error.__class__.__name__})", public=f"{name}: cannot be read"
    )


def _schema_error(file: Path, error: ValidationError) -> BundleError:
    """Report a wrong schema version if there is one, otherwise the first wrong field."""
    errors = error.errors()
    for found in errors:
        if found["loc"] == ("schema_version",):
            return _wrong(
                file,
                MANIFEST_NAME,
                f"schema_version: expected {SCHEMA_VERSION}, got {found['input']!r}; "
                "export the bundle again with `python -m training export` of this revision",
            )
    field = ".".join(str(part) for part in errors[0]["loc"]) or "manifest"
    return BundleError(
        f"{file}: {field}: {errors[0]['msg']}",
        public=f"{MANIFEST_NAME}: {field}: does not match schema {SCHEMA_VERSION}",
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
