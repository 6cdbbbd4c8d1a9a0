"""Converts the samples of a decoded image to 8-bit sRGB or grey.

A large image is brought to a mode that can be scaled, then scaled down, and only then converted to what
the model reads. A full-size image is therefore in memory in one mode only, and conversion is cheap.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin

from models.color import to_srgb


class SampleInfo(NamedTuple):
    """How the samples of an image are to be interpreted.

    Attributes:
        grey: whether there is one channel besides transparency.
        profile: the embedded ICC profile; empty if it is damaged, None if there is none.
        white: the sample value of white, if the file states it.
    """

    grey: bool = False
    profile: bytes | None = None
    white: int | None = None


def sample_info(image: Image.Image) -> SampleInfo:
    """Read the sample information from the file of ``image``, which has just been loaded."""
    grey = image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")
    profile = None
    if "icc_profile" in image.info:
        found = image.info["icc_profile"]
        profile = found if isinstance(found, bytes) else b""  # a damaged file: None, or any other type
    return SampleInfo(grey, profile, _stated_white(image))


_MAX_SAMPLE_VALUE = 281


def _stated_white(image: Image.Image) -> int | None:
    """Return the white of a grey TIFF that uses 9 to 15 of its 16 bits; None for any other image.

    The tag MaxSampleValue may also hold the brightest sample of the image, which must not change how the
    image looks (TIFF 6.0, page 37). It therefore counts only if it is the largest number of 9 to 15 bits.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or not image.mode.startswith("I;16"):
        return None
    bits: int = image.tag_v2[TiffImagePlugin.BITSPERSAMPLE][0]
    largest = image.tag_v2.get(_MAX_SAMPLE_VALUE)
    for bits_used in range(9, 16):
        white = (1 << bits_used) - 1
        if bits == bits_used or largest == (white,):
            return white
    return None


def to_resizable(image: Image.Image, info: SampleInfo) -> Image.Image:
    """Convert an image of any mode, without loss, to one that scales: RGB, L, RGBA, I, F or CMYK."""
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if image.mode in ("I", "F", "RGBA") or (image.mode in ("RGB", "L") and not transparent):
        return image
    if image.mode.startswith("I;16"):
        return image.convert("I")
    if image.mode == "CMYK" and info.profile is not None:
        return image  # to_8bit converts it by its profile, which is more accurate than Pillow's formula
    if image.mode == "La":
        image = image.convert("LA")  # Pillow cannot convert La to RGBA in one step
    return image.convert("RGBA" if transparent else "RGB")


def white_level(image: Image.Image, info: SampleInfo) -> float:
    """Return the sample value that becomes 255, for an image from ``to_resizable``.

    Pillow reads 16-bit grey PNGs and TIFFs as 32-bit. There is no standard white for wider or real-valued
    samples, so these are scaled by their own maximum.
    """
    if image.mode not in ("I", "F"):
        return 255.0
    top = float(np.nan_to_num(image.getextrema()[1]))
    if info.white is not None and top <= info.white:
        return float(info.white)
    return 65535.0 if image.mode == "I" and top <= 65535 else max(top, 1.0)


def to_8bit(image: Image.Image, info: SampleInfo, white: float) -> tuple[Image.Image, bool]:
    """Convert an image from ``to_resizable`` to ``RGB`` or ``L`` in sRGB, with transparency laid on white.

    Returns:
        The image, and whether it has a colour profile that could not be used. A CMYK image whose profile
        could not be used stays CMYK.
    """
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64)) / white * 255.0
        image = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    converted = None if info.profile is None else to_srgb(image, info.profile, grey=info.grey)
    ignored = info.profile is not None and converted is None
    if converted is not None:
        image = converted
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image, ignored
