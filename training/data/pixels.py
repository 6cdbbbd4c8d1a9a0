"""Decodes images once, and caches them on disk as memory-mapped arrays.

Images are decoded by ``models.preprocess``, as in the service. Epochs do not decode images again.
"""

import hashlib
import inspect
import math
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from models import color, jpeg, preprocess, samples
from models.errors import ImageError
from models.preprocess import decode
from models.scaling import Color
from training.data.dataset import DataError, Row


def load_pixels(
    rows: Sequence[Row], *, height: int, width: int, color: Color = "rgb", cache: Path
) -> np.ndarray:
    """Return the decoded images of ``rows`` as a memory-mapped uint8 array ``[N, height, width, C]``.

    Args:
        rows: the images, in the order of the result.
        height, width: size of the result in pixels.
        color: ``"rgb"`` (C = 3) or ``"grey"`` (C = 1).
        cache: folder for the arrays. An array is reused if the files, the size and the decoder's code are
            unchanged.

    Raises:
        DataError: an image cannot be decoded, or the disk has no space for the array.
    """
    channels = 3 if color == "rgb" else 1
    grey = "-grey" if color == "grey" else ""
    file = cache / f"{len(rows)}x{height}x{width}{grey}-{_key(rows)}.npy"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")
        try:
            array = _allocate(part, (len(rows), height, width, channels))

            def fill(index: int) -> None:
                row = rows[index]
                try:
                    data = row.path.read_bytes()
                    array[index] = decode(data, height=height, width=width, color=color).pixels
                except (ImageError, OSError) as error:
                    raise DataError(f"{row.path}: {error}") from error

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(fill, range(len(rows))))  # list() so that an error is raised here
            array.flush()
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)  # removes an unfinished array
    pixels: np.ndarray = np.load(file, mmap_mode="r")
    return pixels


def _allocate(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """Create an array on disk, with its space reserved: writing to a mapping on a full disk is fatal."""
    needed, free = math.prod(shape), shutil.disk_usage(path.parent).free
    message = f"{path.parent}: the decoded images need {needed:,} bytes, {free:,} are free"
    if needed > free:
        raise DataError(message)
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        if hasattr(os, "posix_fallocate"):  # absent on macOS
            with path.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise DataError(f"{message} ({error.strerror})") from error
    return array


def _key(rows: Sequence[Row]) -> str:
    """Return a key that depends on the files, their order and the decoder's source code."""
    decoder = (preprocess, jpeg, samples, color)
    digest = hashlib.sha256("".join(inspect.getsource(module) for module in decoder).encode())
    for row in rows:
        status = row.path.stat()
        digest.update(f"{row.path.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def read_thumbnails(rows: Sequence[Row], size: int) -> np.ndarray:
    """Return the grey centre square of every image, uint8 ``[N, size, size]``.

    Raises:
        DataError: images cannot be decoded; the message names at most ten of them.
    """
    thumbnails = np.empty((len(rows), size, size), dtype=np.uint8)

    def fill(index: int) -> str | None:
        path = rows[index].path
        try:
            with Image.open(path) as image:
                image.draft("L", (2 * size, 2 * size))  # decodes a JPEG at a reduced scale
                grey = image.convert("L")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return f"{path}: {error}"
        side, (width, height) = min(grey.size), grey.size
        left, top = (width - side) / 2, (height - side) / 2
        square = grey.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
        thumbnails[index] = np.asarray(square)
        return None

    with ThreadPoolExecutor() as pool:
        problems = [text for text in pool.map(fill, range(len(rows))) if text]
    if problems:
        shown = "\n  ".join(problems[:10])
        raise DataError(f"{len(problems)} image files cannot be decoded:\n  {shown}")
    return thumbnails
