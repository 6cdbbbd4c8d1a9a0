"""From the paths on a command line to files, and from a file to its bytes, without ever hanging on one."""

import os
import stat
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from service.errors import BodyTooLarge, UnreadableFile

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")
"""What is taken from a folder. A file that is named itself is read whatever its name."""

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What spreadsheets begin a formula with; the wide ones too, where East Asian scripts are usual."""


class Found(NamedTuple):
    """The files to score, in an order that is the same on every run, and what was left out."""

    paths: list[str]
    notes: list[str]


def find(paths: Sequence[str], *, recursive: bool, besides: Path | None = None) -> Found:
    """The files that ``paths`` name, and the images in the folders that they name.

    What cannot be read is among them: reading it fails, and that makes its row.

    Args:
        paths: files and folders.
        recursive: whether folders in folders are entered. Those behind a link never are.
        besides: a folder that is left out, because overlays are written to it.
    """
    found: list[str] = []
    notes: list[str] = []
    for path in paths:
        if _ask(path, Path.is_dir):
            found += _in_folder(path, recursive, besides, notes)
        else:
            found.append(path)
    return Found(list(dict.fromkeys(found)), notes)


def _in_folder(top: str, recursive: bool, besides: Path | None, notes: list[str]) -> list[str]:
    found: list[str] = []
    other = folders_left = 0

    def on_error(error: OSError) -> None:
        found.append(str(error.filename))

    for folder, folders, files in os.walk(top, onerror=on_error):
        if besides is not None and _ask(folder, besides.samefile):
            folders.clear()
            continue
        linked = sum(_ask(str(Path(folder, name)), Path.is_symlink) for name in folders)
        folders_left += linked if recursive else len(folders)
        folders[:] = sorted(folders, key=os.fsencode) if recursive else []
        images = [name for name in files if name.lower().endswith(ENDINGS)]
        other += len(files) - len(images)
        found += [str(Path(folder, name)) for name in sorted(images, key=os.fsencode)]
    if not found:
        notes.append(f"{path_text(top)}: no images (names that end in {' '.join(ENDINGS)})")
    elif other:
        notes.append(f"{path_text(top)}: files left out, whose names are not those of images: {other}")
    if folders_left:
        why = "which are links" if recursive else "without --recursive"
        notes.append(f"{path_text(top)}: folders not entered, {why}: {folders_left}")
    return found


def _ask(path: str, question: Callable[[Path], bool]) -> bool:
    """The answer of the file system; no, where it gives none."""
    try:
        return question(Path(path))
    except OSError:
        return False


def path_text(path: str) -> str:
    """``path`` as it is written into a row: one line of UTF-8 that no spreadsheet takes for a formula.

    Control characters, line separators, bytes that are no UTF-8 and the backslash are written as
    Python escapes, so different paths have different texts. A name that begins as a formula gets
    ``./`` before it, which names the same file.
    """
    text = "".join(_escaped(character) for character in path)
    return f"./{text}" if text.startswith(_FORMULA) else text


def _escaped(character: str) -> str:
    if character == "\\" or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return character.encode("unicode_escape", "surrogatepass").decode()
    return character


def read_file(path: str, max_bytes: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        UnreadableFile: there is none, or it cannot be read.
        BodyTooLarge: over ``max_bytes``.
    """
    try:
        # Opening a pipe would wait for who writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableFile("It is no regular file.")
        if status.st_size > max_bytes:
            raise BodyTooLarge(f"The file is over the limit of {max_bytes:,} bytes.")
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(status.st_size)
    except OSError as error:
        raise _unreadable(error) from error
    finally:
        os.close(descriptor)


def _unreadable(error: OSError) -> UnreadableFile:
    return UnreadableFile(f"The file cannot be read: {os.strerror(error.errno or 0)}.")
