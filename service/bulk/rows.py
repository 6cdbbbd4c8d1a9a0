"""One file's outcome as a line of CSV or JSON, and such a line back to what a resumed run must know."""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from models.bundle import Manifest
from service.api.schemas import Prediction, model_name
from service.errors import URN, Kind


class Scored(NamedTuple):
    """What became of one file.

    Attributes:
        path: as ``path_text`` writes it.
        outcome: what the service would answer, or why there is no answer.
        overlay: name of its picture in the folder for overlays.
    """

    path: str
    outcome: "Prediction | Failure"
    overlay: str | None = None


class Failure(NamedTuple):
    """Why a file has no answer: as the service's problem, RFC 9457."""

    kind: Kind
    detail: str


class Done(NamedTuple):
    """What a row says to a run that goes on after it. ``model`` is its name and version."""

    path: str
    failed: bool
    model: tuple[str, str]


class Format(Protocol):
    """How rows are written. Every row is one line; ``header`` is the first one, with its line end."""

    header: bytes
    start: bytes  # of what is not the header

    def line(self, scored: Scored) -> bytes:
        """One row with its line end."""

    def done(self, line: bytes) -> Done:
        """What a row says.

        Raises:
            ValueError: it is none of this format, with these columns.
        """


class Csv:
    """Comma-separated, UTF-8, with a header; RFC 4180 but for the line ends, which are LF."""

    start = b""

    def __init__(self, manifest: Manifest, *, overlays: bool) -> None:
        self._model = model_name(manifest)
        self._columns = [
            "path", "status", "problem", "detail", "label", "probability", "malignancy",
            "malignancy_probability", *(f"probability_{code}" for code in manifest.codes),
            "prediction_set", "entropy", "disagreement", "ood_score", "warnings", "model", "model_version",
            *(["overlay"] if overlays else []),
        ]  # fmt: skip
        self.header = _csv_line(self._columns)

    def line(self, scored: Scored) -> bytes:
        """One row with its line end."""
        path, outcome, overlay = scored
        cells: dict[str, Any] = {
            "path": path,
            "model": self._model.name,
            "model_version": self._model.version,
        }
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
                "prediction_set": " ".join(outcome.prediction_set.labels),
                "entropy": uncertainty.entropy,
                "disagreement": uncertainty.disagreement,
                "ood_score": uncertainty.ood_score,
                "warnings": " ".join(warning.code for warning in outcome.warnings),
                "overlay": overlay,
            }
            cells |= {f"probability_{code}": value for code, value in outcome.probabilities.items()}
        return _csv_line(cells.get(column, "") for column in self._columns)

    def done(self, line: bytes) -> Done:
        """What a row says."""
        try:
            (values,) = csv.reader([line.decode()], strict=True)
        except csv.Error as error:
            raise ValueError("no row of ours") from error
        row = dict(zip(self._columns, values, strict=True))
        return Done(row["path"], row["status"] != "ok", (row["model"], row["model_version"]))


class JsonLines:
    """A line for each file: what ``POST /predict`` answers, with ``path`` in the place of ``request_id``."""

    header = b""
    start = b'{"path": "'

    def __init__(self, manifest: Manifest, *, overlays: bool) -> None:
        self._model = model_name(manifest).model_dump()
        self._overlays = overlays

    def line(self, scored: Scored) -> bytes:
        """One row with its line end."""
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

    def done(self, line: bytes) -> Done:
        """What a row says."""
        try:
            row = json.loads(line)
            found = Done(
                row["path"], "prediction" not in row, (row["model"]["name"], row["model"]["version"])
            )
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError("no row of ours") from error
        if not all(isinstance(text, str) for text in (found.path, *found.model)):
            raise ValueError("no row of ours")
        if ("overlay" in row) != self._overlays:
            raise ValueError("overlays are, or are not, asked for")
        return found


FORMATS: dict[str, type[Csv] | type[JsonLines]] = {"csv": Csv, "jsonl": JsonLines}


def _csv_line(values: Iterable[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()
