"""The bundle: one exported model with everything needed to serve it honestly.

A bundle is a folder::

    model.onnx       the graph: uint8 images in, calibrated probabilities and maps out
    manifest.json    what the graph is, how to decide with it, and how good it was measured to be
    MODEL_CARD.md    the same for people
    report/          the evaluation that the manifest's figures come from

``save_bundle`` writes the manifest with the sha256 of every other file; ``load_bundle`` checks
all of them, so that a service never answers from an altered or half-copied model. The parts of
the manifest are importable from here, whichever file of the contract defines them.
"""

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from models.errors import BundleError
from models.fields import Interval, Strict, Unit
from models.manifest import (
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
from models.safeguards import (
    CONFIDENCE_BINS,
    Disagreement,
    DriftReference,
    OutOfDistribution,
    PredictionSets,
    QualityLimits,
    Subgroup,
)

__all__ = [
    "CONFIDENCE_BINS",
    "MANIFEST_NAME",
    "MODEL_NAME",
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
        digest: sha256 of the manifest, and so of the whole bundle: the manifest has those of its files.
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

    Verifies the manifest against its schema and every listed file against its sha256. The graph's
    own inputs and outputs are compared with the manifest where it is loaded, by the predictor.

    Raises:
        BundleError: naming the file or field that is wrong, and why.
    """
    manifest_path = path / MANIFEST_NAME
    try:
        text = manifest_path.read_bytes()
    except OSError as error:
        raise _unreadable(manifest_path, MANIFEST_NAME, error) from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise _not_as_expected(manifest_path, error) from error
    if MODEL_NAME not in manifest.files:
        raise _wrong(manifest_path, MANIFEST_NAME, f"files: {MODEL_NAME} missing")
    root = path.resolve()
    for name, expected in manifest.files.items():
        file = (root / name).resolve()
        if not file.is_relative_to(root):
            raise _wrong(manifest_path, MANIFEST_NAME, f"files: {name} lies outside the bundle")
        if file.exists() and not file.is_file():
            raise _wrong(file, name, "is no regular file")  # reading a pipe would wait for ever
        try:
            actual = _sha256(file)
        except OSError as error:
            raise _unreadable(file, name, error) from error
        if actual != expected:
            raise _wrong(file, name, f"sha256 is {actual}, the manifest says {expected}")
    return Bundle(path=path, manifest=manifest, digest=hashlib.sha256(text).hexdigest())


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


def _wrong(file: Path, name: str, what: str) -> BundleError:
    return BundleError(f"{file}: {what}", public=f"{name}: {what}")


def _unreadable(file: Path, name: str, error: OSError) -> BundleError:
    return BundleError(
        f"{file}: cannot be read ({error.__class__.__name__})", public=f"{name}: cannot be read"
    )


def _not_as_expected(file: Path, error: ValidationError) -> BundleError:
    """What is wrong with a manifest; of a manifest of another schema, only that."""
    errors = error.errors()
    for found in errors:
        if found["loc"] == ("schema_version",):
            return _wrong(
                file,
                MANIFEST_NAME,
                f"schema_version: expected {SCHEMA_VERSION}, got {found['input']!r}; "
                "export the bundle again, with `python -m training export` of this revision",
            )
    field = ".".join(str(part) for part in errors[0]["loc"]) or "manifest"
    return BundleError(
        f"{file}: {field}: {errors[0]['msg']}",
        public=f"{MANIFEST_NAME}: {field}: not as schema {SCHEMA_VERSION} demands",
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
