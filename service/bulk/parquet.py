"""Parquet files: the folder of parts that a run on a cluster writes, and manifests."""

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow
import pyarrow.dataset
import pyarrow.parquet
from pyarrow.fs import FileSelector, FileType

from service.api.metadata import FIELDS
from service.bulk.files import Input
from service.bulk.manifest import PATH_COLUMNS, read_manifest
from service.bulk.metadata import Records, csv_records, file_errors
from service.bulk.rows import Columns, Scored
from service.bulk.store import Place, reason, write_file
from service.errors import MetadataFileError, OutputError

_ENDING = ".parquet"
_BUNDLE = b"dermaserve_bundle"
"""Key of the bundle's digest in the metadata of a file."""
_READERS = 16
"""Files that are read at a time. An object store takes long to answer."""


class PartFolder:
    """A folder of Parquet files with rows. Each file is one part of a run.

    Args:
        place: of the folder.
        columns: of the rows.
        digest: of the bundle that the rows are of.
    """

    def __init__(self, place: Place, columns: Columns, digest: str) -> None:
        self._place = place
        self._columns = columns
        self._schema = pyarrow.schema(
            (
                (name, pyarrow.float64() if name in columns.numbers else pyarrow.string())
                for name in columns.names
            ),
            metadata={_BUNDLE: digest.encode()},
        )

    def create(self) -> None:
        """Create the folder, unless it exists.

        Raises:
            OutputError: it cannot be created.
        """
        system, path = self._place
        try:
            kind = system.get_file_info(path).type
            if kind == FileType.NotFound:
                system.create_dir(path, recursive=True)
            elif kind == FileType.File:
                raise OutputError(f"--output: expected a folder for Parquet files, got {path}, a file")
        except (OSError, pyarrow.ArrowException) as error:
            raise OutputError(f"{path}: cannot be created ({reason(error)})") from error

    def write(self, file: str, rows: Iterable[Scored]) -> None:
        """Write a part completely or not at all, and replace one of the same name.

        Raises:
            OutputError: it cannot be written.
        """
        cells = zip(*map(self._columns.cells, rows), strict=True)
        table = pyarrow.table(
            [pyarrow.array(values, field.type) for values, field in zip(cells, self._schema, strict=True)],
            schema=self._schema,
        )
        data = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table, data)
        write_file(self._place, file, data.getvalue())

    def read_finished(self) -> dict[str, bool]:
        """Return the paths that have a row, and whether each failed.

        Raises:
            OutputError: the folder cannot be read, or has rows that do not go with this run.
        """
        system, path = self._place
        try:
            infos = system.get_file_info(FileSelector(path, allow_not_found=True))
            names = sorted(info.base_name for info in infos if info.type == FileType.File)
            parts = [name for name in names if name.startswith("part-") and name.endswith(_ENDING)]
            finished: dict[str, bool] = {}
            count = 0
            with ThreadPoolExecutor(_READERS) as pool:
                for paths, states in pool.map(self._read, parts):
                    count += len(paths)
                    finished |= zip(paths, (state != "ok" for state in states), strict=True)
        except (OSError, pyarrow.ArrowException) as error:
            raise OutputError(f"{path}: cannot be read ({reason(error)})") from error
        if count > len(finished):
            raise self._refused(
                f"{count - len(finished)} of its rows are of images that have another row, because different "
                "runs wrote to it at the same time"
            )
        return finished

    def check(self, file: str) -> None:
        """Check that a part that was written is in the folder.

        Raises:
            OutputError: it is missing.
        """
        system, path = self._place
        try:
            found = system.get_file_info(f"{path}/{file}").type == FileType.File
        except (OSError, pyarrow.ArrowException) as error:
            raise OutputError(f"{path}: cannot be read ({reason(error)})") from error
        if not found:
            raise OutputError(
                f"{path}: a file that was written is not here; expected a folder that all machines of the "
                "cluster share"
            )

    def _read(self, file: str) -> tuple[list[str], list[str]]:
        system, path = self._place
        with pyarrow.parquet.ParquetFile(f"{path}/{file}", filesystem=system) as part:
            schema = part.schema_arrow
            if not schema.equals(self._schema):
                raise self._refused("it has rows with other columns")
            if (schema.metadata or {}).get(_BUNDLE) != self._schema.metadata[_BUNDLE]:
                raise self._refused(f"it has rows of another model than {' '.join(self._columns.model)}")
            rows = part.read(columns=["path", "status"])
        return rows["path"].to_pylist(), rows["status"].to_pylist()

    def _refused(self, why: str) -> OutputError:
        return OutputError(f"{self._place.path}: {why}; choose another folder")


def open_manifest(name: str, place: Place) -> tuple[list[Input], bool]:
    """Read a manifest in CSV or Parquet. See ``service.bulk.manifest.read_manifest``.

    Args:
        name: of the manifest, for messages.
        place: of the file. If its name does not end in ``.csv``, it is a Parquet file or a folder of them.

    Raises:
        MetadataFileError: the file cannot be read, or its rows cannot be used.
    """
    system, path = place
    if path.lower().endswith(".csv"):
        with file_errors(name), system.open_input_file(path) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            columns, records = csv_records(text)
            return read_manifest(name, columns, records, row="line")
    try:
        table = pyarrow.dataset.dataset(path, filesystem=system, format="parquet")
        columns = set(table.schema.names)
        return read_manifest(name, columns, _records(table, columns), row="row")
    except (OSError, pyarrow.ArrowException) as error:
        raise MetadataFileError(f"{name}: cannot be read as Parquet ({reason(error)})") from error


def _records(table: Any, columns: set[str]) -> Records:
    """Yield the rows of a data set with their numbers, from 1, and with texts in the cells."""
    number = 0
    for batch in table.to_batches(columns=[name for name in (*PATH_COLUMNS, *FIELDS) if name in columns]):
        for row in batch.to_pylist():
            number += 1
            yield number, {name: "" if value is None else str(value) for name, value in row.items()}
