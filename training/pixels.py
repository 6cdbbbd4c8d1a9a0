"""Decoded images as one array per part and size, kept on disk and mapped into memory.

Decoding goes through ``models.preprocess`` exactly as in the service. An epoch then costs no
decoding at all, which matters most where the device is fast.
"""

import hashlib
import inspect
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from models import preprocess
from models.errors import ImageError
from models.preprocess import Color, decode
from training.data import DataError, Row


def load_pixels(
    rows: Sequence[Row], *, height: int, width: int, color: Color = "rgb", cache: Path
) -> np.ndarray:
    """Images of ``rows`` as uint8 ``[N, height, width, C]``, decoded once.

    Args:
        rows: the images, in the order wanted.
        height, width: pixels of the result.
        color: ``"rgb"`` (C 3) or ``"grey"`` (C 1).
        cache: folder for the arrays; one is found again by its files, the size and the decoder.

    Raises:
        DataError: an image cannot be decoded.
    """
    channels = 3 if color == "rgb" else 1
    grey = "-grey" if color == "grey" else ""
    file = cache / f"{len(rows)}x{height}x{width}{grey}-{_key(rows)}.npy"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")
        array = np.lib.format.open_memmap(
            part, mode="w+", dtype=np.uint8, shape=(len(rows), height, width, channels)
        )

        def fill(index: int) -> None:
            row = rows[index]
            try:
                array[index] = decode(row.path.read_bytes(), height=height, width=width, color=color).pixels
            except ImageError as error:
                raise DataError(f"{row.path}: {error}") from error

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(fill, range(len(rows))))  # list() so that an error is raised here
        array.flush()
        part.replace(file)  # a stopped run leaves no half-written array behind
    pixels: np.ndarray = np.load(file, mmap_mode="r")
    return pixels


def _key(rows: Sequence[Row]) -> str:
    """Changes with the files, their order and the decoder's own code."""
    digest = hashlib.sha256(inspect.getsource(preprocess).encode())
    for row in rows:
        status = row.path.stat()
        digest.update(f"{row.path.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
