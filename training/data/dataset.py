"""Reads the data set in its published layout: a metadata CSV and one or more folders of images."""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from models.errors import DermaserveError
from models.labels import HAM10000_LABELS, Label

METADATA_NAME = "HAM10000_metadata.csv"
COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
CODES: tuple[str, ...] = tuple(label.code for label in HAM10000_LABELS)
MALIGNANT: tuple[bool, ...] = tuple(label.malignant for label in HAM10000_LABELS)


class DataError(DermaserveError):
    """The data set cannot be used; the message names the rows or files and the reason."""


@dataclass(frozen=True, slots=True)
class Row:
    """One image and its metadata; ``age`` is in years, None if unknown."""

    image_id: str
    lesion_id: str
    dx: str
    dx_type: str
    age: float | None
    sex: str
    localization: str
    path: Path

    @property
    def label(self) -> int:
        """Index of the diagnosis in ``CODES``."""
        return CODES.index(self.dx)


def read_dataset(folder: Path) -> list[Row]:
    """Read the metadata in ``folder``, and find each image in ``folder`` or any folder below it.

    The published archives unpack to ``HAM10000_images_part_1`` and ``_part_2``; other folder names work too.

    Returns:
        The rows, sorted by image_id so that every later step is reproducible.

    Raises:
        DataError: the metadata cannot be read or lacks a column; or rows have an unknown class, an invalid
            age, a repeated image_id, a lesion with two diagnoses, or no image file. The message names at
            most ten of them.
    """
    metadata = folder / METADATA_NAME
    if not metadata.is_file():
        raise DataError(f"{metadata}: not found; expected the published {METADATA_NAME}")
    try:
        with metadata.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restval="")
            missing = set(COLUMNS) - set(reader.fieldnames or ())
            records = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{metadata}: not a readable CSV file ({error})") from error
    if missing:
        raise DataError(f"{metadata}: columns missing: {', '.join(sorted(missing))}")
    if not records:
        raise DataError(f"{metadata}: no rows")
    files = find_images(folder)
    rows, problems = [], []
    for number, record in enumerate(records, start=2):
        path = files.get(record["image_id"])
        if path is None:
            problems.append(f"line {number}: no image file for {record['image_id']}")
        elif record["dx"] not in CODES:
            problems.append(f"line {number}: dx is {record['dx']!r}, expected one of {', '.join(CODES)}")
        elif not record["lesion_id"]:
            problems.append(f"line {number}: lesion_id is empty")
        elif _age(record["age"]) is None:
            problems.append(f"line {number}: age is {record['age']!r}, expected years")
        else:
            rows.append(_row(record, path))
    rows.sort(key=lambda row: row.image_id)
    problems += _contradictions(rows)
    if problems:
        shown = "\n  ".join(problems[:10])
        raise DataError(f"{metadata}: {len(problems)} rows cannot be used:\n  {shown}")
    return rows


def duplicate_groups(rows: Iterable[Row]) -> list[list[Row]]:
    """Return groups of two or more rows whose files are byte-identical."""
    by_digest: dict[str, list[Row]] = {}
    for row in rows:
        with row.path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        by_digest.setdefault(digest, []).append(row)
    return [group for group in by_digest.values() if len(group) > 1]


def find_images(folder: Path) -> dict[str, Path]:
    """Find the image files in ``folder`` and the folders below it.

    If several folders hold an image, for example a folder with a few samples, the largest folder counts.

    Returns:
        The files by their names without the ending.
    """
    by_folder: dict[Path, dict[str, Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            by_folder.setdefault(path.parent, {})[path.stem] = path
    found: dict[str, Path] = {}
    for files in sorted(by_folder.values(), key=len):
        found |= files
    return found


def _age(text: str) -> float | None:
    """Return the age in years, 0 if the field is empty, None if it is not a valid age."""
    try:
        age = float(text or 0)
    except ValueError:
        return None
    return age if 0 <= age < 130 else None  # NaN is not valid either


def _row(record: dict[str, str], path: Path) -> Row:
    return Row(
        image_id=record["image_id"],
        lesion_id=record["lesion_id"],
        dx=record["dx"],
        dx_type=record["dx_type"],
        age=_age(record["age"]) or None,  # in this data set, 0 means unknown
        sex=record["sex"] or "unknown",
        localization=record["localization"] or "unknown",
        path=path,
    )


def _contradictions(rows: Sequence[Row]) -> list[str]:
    problems = [
        f"image_id {before.image_id} occurs twice"
        for before, after in pairwise(rows)
        if before.image_id == after.image_id
    ]
    diagnosis: dict[str, str] = {}
    for row in rows:
        known = diagnosis.setdefault(row.lesion_id, row.dx)
        if known != row.dx:
            problems.append(f"lesion {row.lesion_id} is both {known} and {row.dx}")
    return problems


Task = Literal["diagnosis", "malignancy"]
TASKS: tuple[Task, ...] = ("diagnosis", "malignancy")

_BINARY = (Label("benign", "Benign lesion", False), Label("malignant", "Malignant lesion", True))


@dataclass(frozen=True)
class Classes:
    """The classes of a task, in the order of the model's outputs."""

    labels: tuple[Label, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the classes."""
        return tuple(label.code for label in self.labels)

    @property
    def malignant(self) -> np.ndarray:
        """Whether each class is malignant, bool ``[K]``."""
        return np.array([label.malignant for label in self.labels])

    def indices(self, diagnoses: Sequence[str]) -> np.ndarray:
        """Return the class index, int64 ``[N]``, of each diagnosis (``dx``)."""
        index_of = {code: index for index, code in enumerate(self.codes)}
        if self.labels is _BINARY:
            index_of = {label.code: int(label.malignant) for label in HAM10000_LABELS}
        return np.array([index_of[dx] for dx in diagnoses], dtype=np.int64)


def classes_of(task: Task) -> Classes:
    """Return the classes of ``task``: the seven diagnoses, or benign and malignant."""
    return Classes(_BINARY if task == "malignancy" else HAM10000_LABELS)
