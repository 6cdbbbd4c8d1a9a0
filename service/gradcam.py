"""A class activation map laid over the picture that the model saw."""

import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_OPACITY = 0.4
"""At the hottest spot: the lesion must stay visible under the colour."""

_VIRIDIS = bytes.fromhex(
    "440154470d6048186a482374472d7b4537814240863e49893b528b375b8d33638d2f6b8e2c728e297a8e26828e23898e"
    "21918c1f988b1fa08822a78528ae8032b67a3fbc734ec36b5ec96270cf5784d44b98d83eaddc30c2df23d8e219ece51b"
    "fde725"
)
"""33 evenly spaced RGB anchors of viridis (Smith and van der Walt, CC0): perceptually uniform and
readable for the colour-blind. Linear interpolation stays within 3 of 255 of the full table."""


class Overlay(NamedTuple):
    """A finished picture.

    Attributes:
        png: the file.
        empty: whether the map was zero everywhere, so that nothing is marked.
    """

    png: bytes
    empty: bool


def draw_overlay(pixels: NDArray[np.uint8], heatmap: NDArray[np.float32]) -> Overlay:
    """Lay ``heatmap`` over ``pixels``.

    Args:
        pixels: uint8 ``[height, width, 3 or 1]``, what the model read.
        heatmap: float ``[h, w]``, not negative; scaled by its own maximum, so that colours compare
            places in one picture, not two pictures.
    """
    height, width = pixels.shape[:2]
    picture = np.broadcast_to(pixels, (height, width, 3)).astype(np.float32)
    top = float(heatmap.max())
    empty = not np.isfinite(top) or top <= 0
    if not empty:
        heat = _resize(heatmap / top, height, width)
        opacity = MAX_OPACITY * heat[..., None]
        picture = picture * (1 - opacity) + _colors(heat) * opacity
    buffer = io.BytesIO()
    image = Image.fromarray(np.rint(picture).astype(np.uint8))
    image.save(buffer, "PNG", compress_level=1)  # a fifth of the time of the default, 15 % larger
    return Overlay(buffer.getvalue(), empty)


def _resize(heat: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Bicubic, which overshoots a little: cut back to 0..1."""
    image = Image.fromarray(heat.astype(np.float32))
    resized = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    return np.clip(resized, 0, 1)


def _colors(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours of values in 0..1: float32 RGB in 0..255."""
    anchors = np.frombuffer(_VIRIDIS, np.uint8).reshape(-1, 3)
    positions = np.linspace(0, 1, len(anchors))
    planes = [np.interp(heat, positions, anchors[:, channel]) for channel in range(3)]
    return np.stack(planes, axis=-1).astype(np.float32)
