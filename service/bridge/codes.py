"""The table of the codes in reports: a CSV file that an operator can edit."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from service.errors import SettingsError
from service.settings import BRIDGE_PREFIX

LOCAL_SCHEME = "99DERMASERVE"
"""Coding scheme of local codes; DICOM reserves the prefix 99 for private ones."""

COLUMNS = ("key", "value", "scheme", "meaning", "source")

_NAMES = (
    "procedure", "class", "probability", "includes", "label", "flag", "malignancy", "threshold", "warning",
    "use", "metadata",
)  # fmt: skip
REQUIRED = (*(f"name.{name}" for name in _NAMES), "flag.malignant", "flag.benign", "unit.probability")
"""Keys that every table has. Classes and warnings that it lacks get local codes."""

_VARIABLE = f"{BRIDGE_PREFIX}CODES_FILE"
_REPEATED = "includes."
_MAX_MEANING = 64
_MAX_SCHEME = 16
_MAX_VALUE = 64


class Code(NamedTuple):
    """A coded concept."""

    value: str
    scheme: str
    meaning: str


class Codes:
    """The codes by key."""

    def __init__(self, rows: list[tuple[str, Code]]) -> None:
        self._rows = rows
        self._codes = dict(rows)

    def __getitem__(self, key: str) -> Code:
        return self._codes[key]

    def of_class(self, code: str, name: str) -> Code:
        """Return the code of a class of the model. A class that the table lacks gets a local code."""
        return self._codes.get(f"class.{code}") or _local(code, name)

    def included_in(self, code: str) -> list[Code]:
        """Return the codes of the diagnoses that a class of the model joins, as far as the table has them."""
        return [row for key, row in self._rows if key == f"{_REPEATED}{code}"]

    def of_warning(self, code: str) -> Code:
        """Return the code of a warning. A warning that the table lacks gets a local code."""
        return self._codes.get(f"warning.{code}") or _local(code, code.replace("_", " ").capitalize())


def _local(code: str, meaning: str) -> Code:
    return Code(code[:_MAX_VALUE], LOCAL_SCHEME, meaning[:_MAX_MEANING] or code[:_MAX_MEANING])


def load_codes(path: Path) -> Codes:
    """Read the table.

    Raises:
        SettingsError: the file cannot be read, or is not such a table. There is a line for each wrong row.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets write the mark
    except OSError as error:
        raise _refused(f"a file that can be read, got {path} ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise _refused(f"a file in UTF-8, got other bytes in {path}") from error
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        head, *rows = [(reader.line_num, row) for row in reader if row]
    except (csv.Error, ValueError) as error:
        raise _refused(f"a table, got {path}, which is not CSV or is empty") from error
    if tuple(head[1]) != COLUMNS:
        raise _refused(f"the columns {', '.join(COLUMNS)}, got {', '.join(head[1])} in {path}")
    problems = [f"{path}, line {number}: {problem}" for number, row in rows for problem in _problems(row)]
    keys = [row[0] for _, row in rows]
    problems += [f"{path}: the key {key} is missing" for key in REQUIRED if key not in keys]
    unique = [key for key in keys if not key.startswith(_REPEATED)]
    problems += [
        f"{path}: the key {key} is repeated" for key in dict.fromkeys(unique) if unique.count(key) > 1
    ]
    if problems:
        raise SettingsError([f"{_VARIABLE}: {problem}" for problem in problems])
    return Codes([(row[0], Code(*row[1:4])) for _, row in rows])


def _problems(row: list[str]) -> Iterator[str]:
    if len(row) != len(COLUMNS):
        yield f"expected {len(COLUMNS)} cells, got {len(row)}"
        return
    key, value, scheme, meaning, source = row
    kind = key.partition(".")[0]
    if key not in REQUIRED and (kind not in ("class", "includes", "warning") or not key.partition(".")[2]):
        yield f"expected a key that reports have, got {key!r}"
    for column, text, longest in (
        ("value", value, _MAX_VALUE),
        ("scheme", scheme, _MAX_SCHEME),
        ("meaning", meaning, _MAX_MEANING),
    ):
        plain = text.isascii() and text.isprintable() and "\\" not in text
        if not plain or not 0 < len(text) <= longest or text != text.strip():
            wanted = f"a {column} of 1 to {longest} characters of ASCII without a backslash"
            yield f"expected {wanted}, got {text!r}"
    if not source.strip():
        yield "expected a source, got nothing"


def _refused(expected: str) -> SettingsError:
    return SettingsError([f"{_VARIABLE}: expected {expected}"])
