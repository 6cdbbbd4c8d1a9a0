"""Where rows go: each whole or not at all, after those that an earlier run has left."""

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from service.bulk.rows import Done, Format
from service.errors import OutputError

_LONGEST = 65_536
"""Bytes in a line: several times what a row can have."""


class Output:
    """Appends lines to a descriptor that it owns; ``done`` holds the rows of earlier runs by path."""

    def __init__(self, name: str, descriptor: int, end: int, done: dict[str, Done]) -> None:
        self.done = done
        self._name = name
        self._descriptor = descriptor
        self._end = end

    def write(self, line: bytes) -> None:
        """Append ``line``. Nothing is buffered here: a process that is killed loses no row.

        Raises:
            OutputError: it cannot be written; of a file, no part of it then is.
        """
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            with suppress(OSError):  # a pipe cannot be cut
                os.ftruncate(self._descriptor, self._end)
            why = os.strerror(error.errno or 0)
            raise OutputError(
                f"{self._name}: cannot be written ({why}); the rows before are whole"
            ) from error
        self._end += len(line)

    def close(self) -> None:
        """Wait until a file is on its disk, and close it.

        Raises:
            OutputError: some disks say only now that they are full.
        """
        try:
            if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                os.fsync(self._descriptor)
            os.close(self._descriptor)
        except OSError as error:
            raise OutputError(f"{self._name}: cannot be written ({os.strerror(error.errno or 0)})") from error


def open_output(path: Path | None, format_: Format, model: tuple[str, str], *, overwrite: bool) -> Output:
    """Open ``path``, or standard output, to write after the rows that are there.

    A last line that a killed run has left incomplete is cut off.

    Args:
        path: made if missing; None is standard output.
        format_: of the rows there and to come.
        model: name and version of the one that scores now.
        overwrite: throw away what is there.

    Raises:
        OutputError: it cannot be opened, or holds something else; it is left as it was.
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
        done: dict[str, Done] = {}
        end = 0
        _lock(path, descriptor)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            if not overwrite:
                with open(descriptor, "rb", closefd=False) as stream:
                    done, end = _rows(path, stream, format_, model)
            os.ftruncate(descriptor, end)
        output = Output(str(path), descriptor, end, done)
        if end == 0:
            output.write(format_.header)
    except BaseException:
        os.close(descriptor)
        raise
    return output


def _lock(path: Path, descriptor: int) -> None:
    """Keep other runs out for as long as the descriptor is open: both would write a row of every file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(f"{path}: another run is writing to it") from error
    except OSError:
        return  # some network file systems have no locks


def _rows(
    path: Path, stream: BinaryIO, format_: Format, model: tuple[str, str]
) -> tuple[dict[str, Done], int]:
    """The rows that are there, and where the last whole one ends."""
    done: dict[str, Done] = {}
    end = 0
    header = format_.header
    for number, line in enumerate(iter(lambda: stream.readline(_LONGEST), b""), start=1):
        first = header if number == 1 and header else format_.start
        if not line.endswith(b"\n"):
            if len(line) == _LONGEST or not (line.startswith(first) or first.startswith(line)):
                raise _refused(path, f"line {number} is none of such a file")
            break
        if number == 1 and header:
            if line != header:
                raise _refused(path, "it has other columns")
        else:
            try:
                row = format_.done(line)
            except ValueError as error:
                raise _refused(path, f"line {number} is none of such a file") from error
            if row.model != model:
                was, now = " ".join(row.model), " ".join(model)
                raise _refused(path, f"line {number} is by {was}, this model is {now}")
            done[row.path] = row
        end += len(line)
    return done, end


def _refused(path: Path, why: str) -> OutputError:
    return OutputError(f"{path}: {why}; name another file, or throw this one away with --overwrite")
