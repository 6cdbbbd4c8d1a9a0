"""Appends rows to the output of earlier runs. Each row is written completely or not at all."""

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from service.bulk.rows import FinishedRow, Format
from service.errors import OutputError

_MAX_LINE_BYTES = 65_536
"""Several times the length of the longest row."""


class Output:
    """Appends lines to a file descriptor, and closes it.

    Attributes:
        finished: the rows of earlier runs, by path.
    """

    def __init__(self, name: str, descriptor: int, end: int, finished: dict[str, FinishedRow]) -> None:
        self.finished = finished
        self._name = name
        self._descriptor = descriptor
        self._end = end

    def write(self, line: bytes) -> None:
        """Append ``line`` without a buffer, so that a killed process loses no row.

        Raises:
            OutputError: the line cannot be written. A file then has no part of it.
        """
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            with suppress(OSError):  # a pipe cannot be truncated
                os.ftruncate(self._descriptor, self._end)
            why = os.strerror(error.errno or 0)
            raise OutputError(
                f"{self._name}: cannot be written ({why}); the earlier rows are complete"
            ) from error
        self._end += len(line)

    def close(self) -> None:
        """Flush a file to its disk, and close it.

        Raises:
            OutputError: the file cannot be written. Some file systems report a full disk only here.
        """
        try:
            if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                os.fsync(self._descriptor)
            os.close(self._descriptor)
        except OSError as error:
            raise OutputError(f"{self._name}: cannot be written ({os.strerror(error.errno or 0)})") from error


def open_output(path: Path | None, format_: Format, model: tuple[str, str], *, overwrite: bool) -> Output:
    """Open ``path``, or standard output, to append rows.

    An incomplete last line, which a killed run leaves, is removed.

    Args:
        path: created if missing. None is standard output.
        format_: of the existing and the new rows.
        model: name and version of the current model.
        overwrite: whether to delete the existing rows.

    Raises:
        OutputError: the file cannot be opened, or has other contents. It is left unchanged.
    """
    if path is None:
        output = Output("standard output", os.dup(1), 0, {})
        output.write(format_.header)
        return output
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        raise OutputError(f"{path}: cannot be opened ({os.strerror(error.errno or 0)})") from error
    try:
        finished: dict[str, FinishedRow] = {}
        end = 0
        _lock(path, descriptor)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            if not overwrite:
                with open(descriptor, "rb", closefd=False) as stream:
                    finished, end = _read_rows(path, stream, format_, model)
            os.ftruncate(descriptor, end)
        output = Output(str(path), descriptor, end, finished)
        if end == 0:
            output.write(format_.header)
    except BaseException:
        os.close(descriptor)
        raise
    return output


def _lock(path: Path, descriptor: int) -> None:
    """Lock the file for this run, until the descriptor is closed.

    Two runs at a time would each write a row for every file.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(f"{path}: another run is writing to it") from error
    except OSError:
        return  # some network file systems do not support locks


def _read_rows(
    path: Path, stream: BinaryIO, format_: Format, model: tuple[str, str]
) -> tuple[dict[str, FinishedRow], int]:
    """Return the existing rows by path, and the position after the last complete one."""
    finished: dict[str, FinishedRow] = {}
    end = 0
    header = format_.header
    for number, line in enumerate(iter(lambda: stream.readline(_MAX_LINE_BYTES), b""), start=1):
        prefix = header if number == 1 and header else format_.start
        if not line.endswith(b"\n"):
            if len(line) == _MAX_LINE_BYTES or not (line.startswith(prefix) or prefix.startswith(line)):
                raise _refused(path, f"line {number} is not a row of this format")
            break
        if number == 1 and header:
            if line != header:
                raise _refused(path, "it has other columns")
        else:
            try:
                row = format_.parse(line)
            except ValueError as error:
                raise _refused(path, f"line {number} is not a row of this format") from error
            if row.model != model:
                was, now = " ".join(row.model), " ".join(model)
                raise _refused(path, f"line {number} is from the model {was}, but the current model is {now}")
            finished[row.path] = row
        end += len(line)
    return finished, end


def _refused(path: Path, why: str) -> OutputError:
    return OutputError(f"{path}: {why}; choose another file, or replace this one with --overwrite")
