"""Draws a class activation map over the model's input."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.inference.png import encode_png

MAX_OPACITY = 0.4
"""Opacity at the maximum of the heatmap. The lesion stays visible under the colour."""

_OPACITY = [round(MAX_OPACITY * level) for level in range(256)]

_VIRIDIS = bytes.fromhex(
    "440154470d6048186a482374472d7b4537814240863e49893b528b375b8d33638d2f6b8e2c728e297a8e26828e23898e"
    "21918c1f988b1fa08822a78528ae8032b67a3fbc734ec36b5ec96270cf5784d44b98d83eaddc30c2df23d8e219ece51b"
    "fde725"
)
"""33 evenly spaced RGB anchors of the colour map viridis (Smith and van der Walt, CC0).

Viridis is perceptually uniform and readable for the colour-blind. Linear interpolation stays within 3 of
255 of the full table.
"""


class Overlay(NamedTuple):
    """An overlay.

    Attributes:
        png: the PNG file.
        empty: whether the heatmap is zero everywhere, so that the overlay marks nothing.
    """

    png: bytes
    empty: bool


def draw_overlay(pixels: NDArray[np.uint8], heatmap: NDArray[np.float32]) -> Overlay:
    """Draw ``heatmap`` over ``pixels``.

    Args:
        pixels: uint8 ``[height, width, 3 or 1]``, the input of the model.
        heatmap: float32 ``[h, w]``, at least 0. It is scaled by its maximum, so colours of two overlays
            cannot be compared.
    """
    height, width = pixels.shape[:2]
    image = np.broadcast_to(pixels, (height, width, 3))
    top = float(heatmap.max())
    empty = not np.isfinite(top) or top <= 0
    if not empty:
        heat = _resize(heatmap / top, height, width)
        colors = heat.copy()
        colors.putpalette(_PALETTE)
        mask = heat.point(_OPACITY)
        image = np.asarray(Image.composite(colors.convert("RGB"), Image.fromarray(image), mask))
    return Overlay(encode_png(image), empty)


def _resize(heat: NDArray[np.float32], height: int, width: int) -> Image.Image:
    """Scale a heatmap of 0..1 to a grey image. Clipped, because bicubic scaling overshoots."""
    image = Image.fromarray(heat.astype(np.float32))
    resized = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    return Image.fromarray(np.rint(255 * np.clip(resized, 0, 1)).astype(np.uint8))


def _palette() -> bytes:
    """256 RGB triples, interpolated between the anchors."""
    anchors = np.frombuffer(_VIRIDIS, np.uint8).reshape(-1, 3)
    positions = np.linspace(0, 255, len(anchors))
    channels = [np.interp(np.arange(256), positions, channel) for channel in anchors.T]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8).tobytes()


_PALETTE = _palette()
