"""Small grey pictures of every image: one decode checks the files and feeds the search for duplicates."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from training.data import DataError, Row


def read_thumbnails(rows: Sequence[Row], size: int) -> np.ndarray:
    """The centre square of every image, grey, uint8 ``[N, size, size]``; decoded at a reduced scale.

    Raises:
        DataError: files that are not a whole image; at most ten are named.
    """
    thumbnails = np.empty((len(rows), size, size), dtype=np.uint8)

    def fill(index: int) -> str | None:
        path = rows[index].path
        try:
            with Image.open(path) as image:
                image.draft("L", (2 * size, 2 * size))  # a JPEG's next larger eighth, quarter or half
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
