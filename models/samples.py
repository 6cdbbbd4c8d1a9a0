"""What the samples of a decoded picture mean, and how they become 8-bit sRGB or grey.

A large picture is brought to a mode that can be scaled, is scaled down, and only then converted to what
a model reads: so that it is in memory in one small mode only, and conversion costs little.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin

from models.color import to_srgb


class Meaning(NamedTuple):
    """What a file says of its samples; DICOM files say it elsewhere.

    Attributes:
        grey: whether there is one channel besides transparency.
        profile: the embedded ICC profile; empty where it is damaged, None where there is none.
        white: the sample that is white, where the file states it.
    """

    grey: bool = False
    profile: bytes | None = None
    white: int | None = None


def meaning(image: Image.Image) -> Meaning:
    """Read what the file of ``image`` says; ``image`` has just been loaded."""
    grey = image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")
    profile = None
    if "icc_profile" in image.info:
        found = image.info["icc_profile"]
        profile = found if isinstance(found, bytes) else b""  # Pillow's value is None, or of any type
    return Meaning(grey, profile, _stated_white(image))


def _stated_white(image: Image.Image) -> int | None:
    """The white of grey samples that do not use all 16 bits, by the tags of a TIFF.

    MaxSampleValue may also be the brightest sample that there is, and must then not change how a picture
    looks (TIFF 6.0, page 37): only the largest number of 9 to 15 bits is taken for a white.
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


_MAX_SAMPLE_VALUE = 281


def resizable(image: Image.Image, said: Meaning) -> Image.Image:
    """Any mode Pillow decodes to, as one that scales without loss: RGB, L, RGBA, I, F or CMYK."""
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if image.mode in ("I", "F", "RGBA") or (image.mode in ("RGB", "L") and not transparent):
        return image
    if image.mode.startswith("I;16"):
        return image.convert("I")
    if image.mode == "CMYK" and said.profile is not None:
        return image  # a profile says better than Pillow how the inks look
    if image.mode == "La":
        image = image.convert("LA")  # which Pillow does not do by the way
    return image.convert("RGBA" if transparent else "RGB")


def white_level(image: Image.Image, said: Meaning) -> float:
    """The sample that becomes 255, of a picture that is ``resizable``.

    Pillow reads 16-bit grey PNGs and TIFFs as 32-bit; wider or real-valued data is scaled by its
    own range, there being no standard one.
    """
    if image.mode not in ("I", "F"):
        return 255.0
    top = float(np.nan_to_num(image.getextrema()[1]))
    if said.white is not None and top <= said.white:
        return float(said.white)
    return 65535.0 if image.mode == "I" and top <= 65535 else max(top, 1.0)


def displayed(image: Image.Image, said: Meaning, white: float) -> tuple[Image.Image, bool]:
    """A picture as ``RGB`` or ``L`` in sRGB, transparency laid on white.

    Returns:
        The picture; and whether it has a profile that could not be used.
    """
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64)) / white * 255.0
        image = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    converted = None if said.profile is None else to_srgb(image, said.profile, grey=said.grey)
    ignored = said.profile is not None and converted is None
    if converted is not None:
        image = converted
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image, ignored
