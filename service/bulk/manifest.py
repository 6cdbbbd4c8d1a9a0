"""Reads a manifest: the table of the images to score, with their age, sex and body site."""

from models.bundle import Metadata
from service.api.metadata import FIELDS, parse_texts
from service.bulk.files import Input
from service.bulk.metadata import Problems, Records
from service.errors import InvalidRequest, MetadataFileError

PATH_COLUMNS = ("path", "uri")
"""Columns that may name the image. The first that is there is used."""


def read_manifest(name: str, columns: set[str], records: Records, *, row: str) -> tuple[list[Input], bool]:
    """Read the rows of a manifest.

    The column ``path`` or ``uri`` names the image. The columns ``age``, ``sex`` and ``site`` may be missing.
    An empty cell means that the value is not known. Other columns are ignored.

    Args:
        name: of the file, for messages.
        columns: names of its columns.
        records: its rows with their numbers.
        row: what the numbers count: lines or rows.

    Returns:
        The images, in order, and whether the manifest has a column of metadata.

    Raises:
        MetadataFileError: rows cannot be used. The message names them, and has no value of them.
    """
    path_column = next((column for column in PATH_COLUMNS if column in columns), None)
    if path_column is None:
        raise MetadataFileError(f"{name}: expected a column path or uri, found {', '.join(sorted(columns))}")
    fields = [field for field in FIELDS if field in columns]
    found: dict[str, Input] = {}
    known: dict[tuple[str, ...], Metadata] = {}  # the same values come again and again
    problems = Problems()
    for number, record in records:
        path = record[path_column]
        texts = tuple(record[field].strip() for field in fields)
        try:
            if not path:
                raise InvalidRequest(f"{path_column}: expected a path or a URI, got nothing.")
            if path in found:
                raise InvalidRequest(f"{path_column}: an earlier {row} has the same.")
            if texts not in known:
                known[texts] = parse_texts(dict(zip(fields, texts, strict=True)), "pointer")
        except InvalidRequest as error:
            problems.add(f"{name}: {row} {number}: {error}")
            continue
        found[path] = Input(path, known[texts])
    problems.check(name)
    return list(found.values()), bool(fields)
