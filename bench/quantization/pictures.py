"""The images for calibration and for judging: HAM10000 where it is, else drawn lesions.

With the data set they come from different parts of the bundle's split: those that ranges are found on from
the training part, those that tell what quantization costs from the validation part.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.images import draw_lesion
from models.bundle import Bundle
from models.preprocess import decode
from training.data.dataset import Row, read_dataset
from training.data.split import read_split, rows_of

SPLIT_NAME = "split.csv"
_DRAWN = 64


@dataclass(frozen=True)
class Pictures:
    """Images as the graph reads them.

    Attributes:
        pixels: uint8 ``[n, height, width, channels]``.
        labels: class index of each in the bundle's order; None where no one knows.
        source: where they are from, in words.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    source: str


def real_rows(bundle: Bundle, part: str) -> list[Row]:
    """The data set's rows of one part of the bundle's split; none where there is no data set.

    Raises:
        DataError: the data set or the split cannot be used.
    """
    folder = os.environ.get("DERMASERVE_HAM10000")
    if not folder:
        return []
    rows = read_dataset(Path(folder))
    return rows_of(rows, read_split(bundle.path / SPLIT_NAME, rows), part)


def pictures(bundle: Bundle, part: str, count: int | None) -> Pictures:
    """So many images of a part, or all; the same at each call.

    Args:
        bundle: whose split and input count.
        part: ``"train"`` or ``"validation"``.
        count: of images; None: all there are, or 64 drawn ones.
    """
    rng = np.random.default_rng(["train", "validation"].index(part))
    rows = real_rows(bundle, part)
    if rows:
        picked = [rows[index] for index in sorted(rng.permutation(len(rows))[:count])]
        pixels = [_pixels(bundle, row.path.read_bytes()) for row in picked]
        labels = np.array([bundle.manifest.codes.index(row.dx) for row in picked])
        return Pictures(np.stack(pixels), labels, f"{len(picked)} images of HAM10000, {part} part")
    drawn = [_pixels(bundle, draw_lesion(rng)) for _ in range(count or _DRAWN)]
    return Pictures(np.stack(drawn), None, f"{len(drawn)} drawn lesions")


def _pixels(bundle: Bundle, data: bytes) -> NDArray[np.uint8]:
    spec = bundle.manifest.input
    return decode(data, height=spec.height, width=spec.width, color=spec.color).pixels
