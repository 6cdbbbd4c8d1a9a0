"""Crops and scales an image to the size that a model reads."""

import math
from typing import Literal

import numpy as np
from PIL import Image

from models.samples import SampleInfo, to_8bit

Color = Literal["rgb", "grey"]

_REDUCING_GAP = 2.0
"""Box-average a large image first, to at least this many times the target size; see ``Image.resize``."""

_FILTER_MARGIN = 1.5
"""How far the bicubic filter reads beyond the crop, in pixels of the result."""


def crop_and_scale(
    image: Image.Image, info: SampleInfo, white: float, *, height: int, width: int, color: Color
) -> tuple[np.ndarray, bool]:
    """Crop the largest centred ``width:height`` rectangle of an upright image, scale and convert it.

    Args:
        image: the image, of a mode that ``to_resizable`` returns.
        info: what its file says of its samples.
        white: its sample value of white; see ``white_level``.
        height, width: size of the result in pixels.
        color: colour of the result.

    Returns:
        The uint8 ``[height, width, channels]`` that a model reads, and whether a profile was ignored.
    """
    box, ignored = _box(image, height, width), False
    if info.profile is not None:
        image, box = _reduce(image, box, width)
        image, ignored = to_8bit(image, info, white)
    image = image.resize((width, height), Image.Resampling.BICUBIC, box=box, reducing_gap=_REDUCING_GAP)
    if info.profile is None:
        image, _ = to_8bit(image, info, white)
    pixels = np.asarray(image.convert("L" if color == "grey" else "RGB"))
    return pixels.reshape(height, width, -1), ignored


_Box = tuple[float, float, float, float]


def _box(image: Image.Image, height: int, width: int) -> _Box:
    """Return the largest centred ``width:height`` rectangle: left, top, right and bottom."""
    scale = min(image.width / width, image.height / height)
    # min(): rounding errors may put the edge beyond the image, which resize() rejects.
    across, down = min(scale * width, image.width), min(scale * height, image.height)
    left, top = (image.width - across) / 2, (image.height - down) / 2
    return left, top, min(left + across, image.width), min(top + down, image.height)


def _reduce(image: Image.Image, box: _Box, target_width: int) -> tuple[Image.Image, _Box]:
    """Crop ``image`` to ``box`` with a margin, and reduce it by a whole number, as resize() does first.

    Colours are converted at this size. The conversion rounds to 8 bits, and scaling afterwards averages the
    rounding errors: probabilities then change by at most 0.019, against 0.035 if colours were converted at
    the target size.

    Returns:
        The reduced image, and ``box`` in its coordinates.
    """
    scale = (box[2] - box[0]) / target_width
    margin = _FILTER_MARGIN * scale
    left, top = max(0, int(box[0] - margin)), max(0, int(box[1] - margin))
    right, bottom = math.ceil(box[2] + margin), math.ceil(box[3] + margin)
    factor = max(1, int(scale / _REDUCING_GAP))
    image = image.reduce(factor, (left, top, min(right, image.width), min(bottom, image.height)))
    inner = (
        (box[0] - left) / factor,
        (box[1] - top) / factor,
        (box[2] - left) / factor,
        (box[3] - top) / factor,
    )
    return image, inner
