"""Writes the outcome of one file as a line of CSV or JSON, and parses such lines to resume a run."""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from models.bundle import NO_METADATA, Manifest, Metadata
from service.api.schemas import Prediction, model_name
from service.errors import URN, Kind


class Scored(NamedTuple):
    """The outcome of one file.

    Attributes:
        path: from ``path_text``.
        outcome: the prediction, or the reason why there is none.
        overlay: file name of the overlay, or None.
    """

    path: str
    outcome: "Prediction | Failure"
    overlay: str | None = None


class Failure(NamedTuple):
    """The reason why a file has no prediction: the type of the service's problem, and its detail."""

    kind: Kind
    detail: str


class FinishedRow(NamedTuple):
    """The parts of a row that a resumed run needs. ``model`` is the name and version of its model."""

    path: str
    failed: bool
    model: tuple[str, str]


class Format(Protocol):
    """A format of rows. Each row is one line.

    Attributes:
        header: the first line with its line end, or empty.
        start: the first bytes of every other line.
    """

    header: bytes
    start: bytes

    def line(self, scored: Scored) -> bytes:
        """Return one row with its line end."""

    def parse(self, line: bytes) -> FinishedRow:
        """Parse a row.

        Raises:
            ValueError: the line is not a row of this format with these columns.
        """


class Columns:
    """The columns of CSV and Parquet, and the cells of a row.

    Attributes:
        names: of the columns, in order.
        numbers: names of the columns that hold numbers. The others hold text.
        model: name and version of the model.
    """

    def __init__(self, manifest: Manifest, *, overlays: bool, metadata: bool = False) -> None:
        self.model = (manifest.name, manifest.version)
        probabilities = [f"probability_{code}" for code in manifest.codes]
        self.names = (
            "path", "status", "problem", "detail", "label", "probability", "malignancy",
            "malignancy_probability", *probabilities,
            "prediction_set", "entropy", "disagreement", "ood_score", "warnings", "model", "model_version",
            *([f"{name}_used" for name in Metadata.model_fields] if metadata else []),
            *(["overlay"] if overlays else []),
        )  # fmt: skip
        self.numbers = {
            "probability", "malignancy_probability", *probabilities,
            "entropy", "disagreement", "ood_score", "age_used",
        }  # fmt: skip

    def cells(self, scored: Scored) -> list[Any]:
        """Return the cells of one row. A cell without a value is None."""
        path, outcome, overlay = scored
        cells: dict[str, Any] = {"path": path}
        cells["model"], cells["model_version"] = self.model
        if isinstance(outcome, Failure):
            cells |= {"status": "failed", "problem": outcome.kind.type, "detail": outcome.detail}
        else:
            uncertainty = outcome.uncertainty
            cells |= {
                "status": "ok",
                "label": outcome.prediction.label,
                "probability": outcome.prediction.probability,
                "malignancy": outcome.malignancy.flag,
                "malignancy_probability": outcome.malignancy.probability,
                "prediction_set": " ".join(outcome.prediction_set.labels) or None,
                "entropy": uncertainty.entropy,
                "disagreement": uncertainty.disagreement,
                "ood_score": uncertainty.ood_score,
                "warnings": " ".join(warning.code for warning in outcome.warnings) or None,
                "overlay": overlay,
            }
            used = outcome.metadata_used or NO_METADATA
            cells |= {f"{name}_used": value for name, value in used.model_dump().items()}
            cells |= {f"probability_{code}": value for code, value in outcome.probabilities.items()}
        return [cells.get(name) for name in self.names]


class Csv:
    """CSV as in RFC 4180, in UTF-8, with a header, and LF as line end."""

    start = b""

    def __init__(self, manifest: Manifest, *, overlays: bool, metadata: bool = False) -> None:
        self._columns = Columns(manifest, overlays=overlays, metadata=metadata)
        self.header = _csv_line(self._columns.names)

    def line(self, scored: Scored) -> bytes:
        """Return one row with its line end."""
        return _csv_line(self._columns.cells(scored))

    def parse(self, line: bytes) -> FinishedRow:
        """Parse a row."""
        try:
            (values,) = csv.reader([line.decode()], strict=True)
        except csv.Error as error:
            raise ValueError("not a row of this format") from error
        row = dict(zip(self._columns.names, values, strict=True))
        return FinishedRow(row["path"], row["status"] != "ok", (row["model"], row["model_version"]))


class JsonLines:
    """JSON lines. Each is the response of ``POST /predict`` with ``path`` instead of ``request_id``."""

    header = b""
    start = b'{"path": "'

    def __init__(self, manifest: Manifest, *, overlays: bool, metadata: bool = False) -> None:
        self._model = model_name(manifest).model_dump()
        self._overlays = overlays

    def line(self, scored: Scored) -> bytes:
        """Return one row with its line end."""
        path, outcome, overlay = scored
        body: dict[str, Any] = {"path": path, "model": self._model}
        if isinstance(outcome, Failure):
            kind, detail = outcome
            body |= {"type": URN + kind.type, "title": kind.title, "status": kind.status, "detail": detail}
        else:
            body |= outcome.model_dump(mode="json", exclude={"request_id"})
        if self._overlays:
            body["overlay"] = overlay
        return json.dumps(body, ensure_ascii=False).encode() + b"\n"

    def parse(self, line: bytes) -> FinishedRow:
        """Parse a row."""
        try:
            row = json.loads(line)
            finished = FinishedRow(
                row["path"], "prediction" not in row, (row["model"]["name"], row["model"]["version"])
            )
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError("not a row of this format") from error
        if not all(isinstance(text, str) for text in (finished.path, *finished.model)):
            raise ValueError("not a row of this format")
        if ("overlay" in row) != self._overlays:
            raise ValueError("not a row of a run with the same overlays")
        return finished


FORMATS: dict[str, type[Csv] | type[JsonLines]] = {"csv": Csv, "jsonl": JsonLines}


def _csv_line(values: Iterable[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()
