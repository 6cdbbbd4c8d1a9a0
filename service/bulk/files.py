"""Finds and reads the image files that a command line names. Special files such as pipes cannot block it."""

import os
import stat
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from models.bundle import NO_METADATA, Metadata
from service.errors import BodyTooLarge, UnreadableFile

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".dcm", ".dicom", ".heic", ".heif")
"""Endings of the files that are taken from a folder. A file named on the command line may have any name."""

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Characters that begin a formula in spreadsheets, including the full-width forms."""


class Input(NamedTuple):
    """One file to score: its path or URI as given, and what is known of it."""

    path: str
    metadata: Metadata = NO_METADATA


class FilesToScore(NamedTuple):
    """The files to score, in an order that is the same on every run, and notes on skipped ones."""

    paths: list[str]
    notes: list[str]


def find_files(paths: Sequence[str], *, recursive: bool, exclude: Path | None = None) -> FilesToScore:
    """Find the files in ``paths`` and the image files in the folders in ``paths``.

    Unreadable files and folders are included: reading them fails, and the row says why.

    Args:
        paths: files and folders.
        recursive: whether to enter subfolders. Linked folders are never entered.
        exclude: a folder to skip, because overlays are written to it.
    """
    files: list[str] = []
    notes: list[str] = []
    for path in paths:
        if _check(path, Path.is_dir):
            files += _files_in_folder(path, recursive, exclude, notes)
        else:
            files.append(path)
    return FilesToScore(list(dict.fromkeys(files)), notes)


def _files_in_folder(top: str, recursive: bool, exclude: Path | None, notes: list[str]) -> list[str]:
    files: list[str] = []
    skipped_files = skipped_folders = 0

    def on_error(error: OSError) -> None:
        files.append(str(error.filename))

    for folder, subfolders, names in os.walk(top, onerror=on_error):
        if exclude is not None and _check(folder, exclude.samefile):
            subfolders.clear()
            continue
        linked = sum(_check(str(Path(folder, name)), Path.is_symlink) for name in subfolders)
        skipped_folders += linked if recursive else len(subfolders)
        subfolders[:] = sorted(subfolders, key=os.fsencode) if recursive else []
        images = [name for name in names if name.lower().endswith(ENDINGS)]
        skipped_files += len(names) - len(images)
        files += [str(Path(folder, name)) for name in sorted(images, key=os.fsencode)]
    if not files:
        notes.append(f"{path_text(top)}: no images (file names that end in {' '.join(ENDINGS)})")
    elif skipped_files:
        notes.append(f"{path_text(top)}: skipped files without the name of an image: {skipped_files}")
    if skipped_folders:
        why = "behind links" if recursive else "without --recursive"
        notes.append(f"{path_text(top)}: skipped folders {why}: {skipped_folders}")
    return files


def _check(path: str, condition: Callable[[Path], bool]) -> bool:
    """Return ``condition(path)``, or False if the file system raises an error."""
    try:
        return condition(Path(path))
    except OSError:
        return False


def path_text(path: str) -> str:
    """Return ``path`` as rows contain it: one line of UTF-8 that no spreadsheet takes for a formula.

    Control characters, line separators, bytes that are not UTF-8 and backslashes become Python escapes, so
    that different paths have different texts. A path that begins like a formula gets the prefix ``./``.
    """
    plain = path.isascii() and path.isprintable() and "\\" not in path  # nearly all are; saves minutes
    text = path if plain else "".join(_escaped(character) for character in path)
    return f"./{text}" if text.startswith(_FORMULA) else text


def _escaped(character: str) -> str:
    if character == "\\" or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return character.encode("unicode_escape", "surrogatepass").decode()
    return character


def read_file(path: str, max_bytes: int) -> bytes:
    """Read a regular file.

    Raises:
        UnreadableFile: the file is missing, not a regular file, or not readable.
        BodyTooLarge: the file has more than ``max_bytes`` bytes.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise unreadable(error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableFile("It is not a regular file.")
        if status.st_size > max_bytes:
            raise too_large(max_bytes)
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(status.st_size)
    except OSError as error:
        raise unreadable(error) from error
    finally:
        os.close(descriptor)


def unreadable(error: OSError) -> UnreadableFile:
    """Return the exception of a file whose reading raised ``error``."""
    return UnreadableFile(f"The file cannot be read: {os.strerror(error.errno or 0)}.")


def too_large(max_bytes: int) -> BodyTooLarge:
    """Return the exception of a file with more than ``max_bytes`` bytes."""
    return BodyTooLarge(f"The file is larger than the limit of {max_bytes:,} bytes.")
