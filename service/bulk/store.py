"""Files in object stores and other file systems, by URI: lists, reads and writes them, with pyarrow.

The part of a URI behind the host or bucket is the name of the file as it is, without percent-encoding.
Credentials come from the environment of the process, as the tools of each store read them.
"""

import os
import re
import uuid
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from service.bulk.files import ENDINGS, FilesToScore, find_files, path_text, read_file, too_large, unreadable
from service.errors import OutputError, StoreError, UnreadableFile

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://([^/]*)(.*)", re.DOTALL)
_OBJECT_STORES = ("s3", "gs", "gcs", "abfs", "abfss")
"""Schemes of the stores in which a file appears when it is complete."""

_LONGEST_REASON = 200


class Place(NamedTuple):
    """A path in a file system."""

    system: FileSystem
    path: str


def local_path(path: str, folder: str) -> str | None:
    """Return ``path`` as an absolute local path, or None if it is a URI of another file system.

    Args:
        path: a path, or a URI.
        folder: the folder that relative paths start from.
    """
    match = _URI.fullmatch(path)
    if match is None:
        return str(Path(folder, path))
    local = match[1].lower() == "file" and match[2] in ("", "localhost")
    return str(Path(unquote(match[3]))) if local else None


def place_of(path: str, folder: str) -> Place:
    """Return the place of a path or URI.

    Raises:
        UnreadableFile: the URI is wrong. The message does not contain it.
        StoreError: its file system cannot be used.
    """
    local = local_path(path, folder)
    if local is not None:
        return Place(LocalFileSystem(), local)
    scheme, host, name = _URI.fullmatch(path).groups()  # type: ignore[union-attr]
    if scheme.lower() not in _OBJECT_STORES:
        raise UnreadableFile(f"Expected a path, or a URI with {', '.join(_OBJECT_STORES)} or file.")
    if ":" in host.rpartition("@")[0]:
        raise UnreadableFile("Expected a URI without a password.")
    try:
        system, base = _system(f"{scheme}://{host}/")
    except (OSError, pyarrow.ArrowException) as error:
        raise StoreError(f"{scheme}://{host}: cannot be used ({reason(error)})") from error
    return Place(system, (base + name).rstrip("/"))


@cache
def _system(root: str) -> tuple[FileSystem, str]:
    system, base = FileSystem.from_uri(root)
    return system, base.rstrip("/")


def read_image(path: str, max_bytes: int, *, folder: str) -> bytes:
    """Read a file by its path or URI. Relative paths start from ``folder``.

    Raises:
        UnreadableFile: the file is missing, or is local and not readable.
        BodyTooLarge: the file has more than ``max_bytes`` bytes.
        StoreError: the object store refuses or cannot be reached, so that nothing is known of the file.
    """
    local = local_path(path, folder)
    if local is not None:
        return read_file(local, max_bytes)
    system, name = place_of(path, folder)
    try:
        with system.open_input_file(name) as stream:
            size = stream.size()
            if size > max_bytes:
                raise too_large(max_bytes)
            return bytes(stream.read(size))
    except FileNotFoundError as error:
        raise unreadable(error) from error
    except (OSError, pyarrow.ArrowException) as error:
        # The name may be that of a patient, and Ray logs exceptions with their causes.
        bucket, _, key = name.partition("/")
        raise StoreError(f"{bucket}: cannot be read ({reason(error).replace(key, '...')})") from None


def find_images(paths: Iterable[str], *, recursive: bool, folder: str) -> FilesToScore:
    """Find image files as ``find_files`` does, also by URI.

    Raises:
        UnreadableFile: a URI is wrong or cannot be listed.
        StoreError: a file system cannot be used.
    """
    files: list[str] = []
    notes: list[str] = []
    for path in paths:
        local = local_path(path, folder)
        if local is None:
            found = _find_by_uri(path, recursive, folder)
        else:  # relative paths stay as they are given
            found = find_files([path if _URI.fullmatch(path) is None else local], recursive=recursive)
        files += found.paths
        notes += found.notes
    return FilesToScore(list(dict.fromkeys(files)), notes)


def _find_by_uri(uri: str, recursive: bool, folder: str) -> FilesToScore:
    system, top = place_of(uri, folder)
    try:
        if system.get_file_info(top).type != FileType.Directory:
            return FilesToScore([uri], [])
        infos = system.get_file_info(FileSelector(top, recursive=recursive))
    except (OSError, pyarrow.ArrowException) as error:
        raise UnreadableFile(f"{path_text(uri)}: cannot be listed ({reason(error)})") from error
    names = sorted(info.path for info in infos if info.type == FileType.File)
    images = [name for name in names if name.lower().endswith(ENDINGS)]
    folders = sum(info.type == FileType.Directory for info in infos)
    notes = []
    if not images:
        notes.append(f"{path_text(uri)}: no images (file names that end in {' '.join(ENDINGS)})")
    elif len(images) < len(names):
        notes.append(
            f"{path_text(uri)}: skipped files without the name of an image: {len(names) - len(images)}"
        )
    if folders and not recursive:
        notes.append(f"{path_text(uri)}: skipped folders without --recursive: {folders}")
    start = uri.rstrip("/")
    return FilesToScore([start + name.removeprefix(top) for name in images], notes)


def write_file(folder: Place, name: str, data: Any) -> None:
    """Write a file in a folder. It appears when it is complete, and replaces one of the same name.

    Raises:
        OutputError: the file cannot be written.
    """
    system = folder.system
    target = f"{folder.path}/{name}"
    try:
        if isinstance(system, LocalFileSystem):
            _write_local(Path(target), data)
        else:
            with system.open_output_stream(target) as stream:
                stream.write(data)
    except (OSError, pyarrow.ArrowException) as error:
        raise OutputError(f"{folder.path}: cannot be written ({reason(error)})") from error


def _write_local(target: Path, data: Any) -> None:
    # Programs that read a folder of Parquet files ignore names that begin with a full stop.
    hidden = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with hidden.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        hidden.replace(target)
    except BaseException:
        with suppress(OSError):
            hidden.unlink()
        raise


def reason(error: Exception) -> str:
    """Return the reason of an error in one line."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(str(error).split())[:_LONGEST_REASON]
