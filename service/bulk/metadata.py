"""Reads the CSV file with the age, sex and body site of the files to score."""

import csv
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from models.bundle import Metadata
from service.api.metadata import FIELDS, parse_texts
from service.bulk.files import path_text
from service.errors import InvalidRequest, MetadataFileError

_FILE_COLUMNS = ("path", "file")
_SHOWN = 10  # problems in one message


def read_metadata(file: Path, paths: Sequence[str]) -> dict[str, Metadata]:
    """Read the metadata of the files to score.

    The column ``path`` or ``file`` has a path, or a file name without a folder. The columns ``age``, ``sex``
    and ``site`` may be missing, but not all of them. An empty cell means that the value is not known. Other
    columns, and lines for other files, are ignored.

    Args:
        file: the CSV file, in UTF-8 with a header.
        paths: the files to score.

    Returns:
        The metadata by path, for the files that have a line.

    Raises:
        MetadataFileError: the file cannot be read, or lines cannot be used. The message names the lines, and
            has no value of them.
    """
    files = _by_key(paths)
    found: dict[str, Metadata] = {}
    lines: dict[str, int] = {}
    problems = Problems()
    with file_errors(str(file)), file.open(newline="", encoding="utf-8-sig") as stream:
        columns, records = csv_records(stream)
        if not columns & set(_FILE_COLUMNS) or not columns & set(FIELDS):
            raise MetadataFileError(
                f"{file}: expected a column path or file, and at least one of {', '.join(FIELDS)}"
            )
        for number, record in records:
            name = next((record[column] for column in _FILE_COLUMNS if column in record), "")
            matches = files.get(name) or files.get(str(Path(name).absolute()) if os.sep in name else "", [])
            try:
                if len(matches) > 1:
                    raise InvalidRequest("several files have this name; give the path.")
                metadata = parse_texts(
                    {field: record[field].strip() for field in FIELDS if field in record}, "pointer"
                )
            except InvalidRequest as error:
                problems.add(f"{file}: line {number}: {error}")
                continue
            for path in matches:
                if path in found:
                    problems.add(f"{file}: line {number}: the same file as in line {lines[path]}.")
                found[path], lines[path] = metadata, number
    problems.check(str(file))
    return found


class Problems:
    """Collects the problems of a file, and keeps the first ones."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._count = 0

    def add(self, problem: str) -> None:
        """Add one line."""
        self._count += 1
        if len(self._shown) < _SHOWN:
            self._shown.append(problem)

    def check(self, file: str) -> None:
        """Raise MetadataFileError if there are problems."""
        if self._count > _SHOWN:
            self._shown.append(f"{file}: {self._count - _SHOWN} more problems")
        if self._shown:
            raise MetadataFileError("\n".join(self._shown))


def _by_key(paths: Iterable[str]) -> Mapping[str, list[str]]:
    """Map each name to its files. A path counts as given, as in rows and absolute; so does the file name."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        for key in {path, path_text(path), str(Path(path).absolute()), Path(path).name}:
            found[key].append(path)
    return found


Records = Iterator[tuple[int, dict[str, str]]]
"""The number and the cells of each row."""


def csv_records(stream: TextIO) -> tuple[set[str], Records]:
    """Return the columns of a CSV file with a header, and its rows with their line numbers."""
    reader = csv.DictReader(stream, restval="", strict=True)
    return set(reader.fieldnames or ()), ((reader.line_num, record) for record in reader)


@contextmanager
def file_errors(file: str) -> Iterator[None]:
    """Turn the errors of opening and reading a CSV file into MetadataFileError."""
    try:
        yield
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = os.strerror(error.errno or 0) if isinstance(error, OSError) else "not CSV in UTF-8"
        raise MetadataFileError(f"{file}: cannot be read ({why})") from None
