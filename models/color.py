"""Colours by an embedded ICC profile to sRGB, in which the training data is.

A picture is scaled down before, so that the size of the file does not matter.

Reference: ICC.1:2022, section 7.2 (the header of a profile).
"""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
"""Colour space in the header of a profile, to Pillow's mode."""

_LARGEST = 4_000_000
"""Bytes of a profile that is used. Those of printing presses have up to 3 MB, those of cameras a few KB."""

_LARGEST_KEPT = 100_000
"""Bytes of a profile whose conversion is kept. Those of cameras take 0.5 to 10 kB."""

_UNSEEN = 2
"""A profile that moves no sample by more than this, of 255, is sRGB under whatever name."""


def to_srgb(image: Image.Image, profile: object, *, grey: bool) -> Image.Image | None:
    """Convert a small picture from the colours of ``profile`` to sRGB.

    Args:
        image: ``RGB``, ``RGBA``, ``L`` or ``CMYK``.
        profile: what the file holds: the bytes of an ICC profile, or anything else where it is damaged.
        grey: whether the file has one channel besides transparency.

    Returns:
        ``image`` itself where the profile is sRGB; else a new one, ``RGB`` or ``RGBA``. None where the
        profile is broken, or of another colour space than the picture's.
    """
    if not isinstance(profile, bytes) or len(profile) > _LARGEST:
        return None
    mode = _MODES.get(profile[16:20])
    # Grey may have a profile of RGB: it then means equal red, green and blue.
    fits = {"RGB": image.mode != "CMYK", "L": grey, "CMYK": image.mode == "CMYK"}
    if mode is None or not fits[mode]:
        return None
    colors = image.getchannel(0) if mode == "L" else image.convert(mode)
    try:
        transform = _transform(profile, mode)
        converted = image if transform is None else transform.apply(colors)
    except (OSError, ValueError, ImportError):  # of Little CMS; the last where Pillow was built without it
        return None
    if image.mode == "RGBA" and converted is not image:
        converted.putalpha(image.getchannel("A"))
    return converted


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """As ``_new_transform``, kept for profiles of a camera's size: memory is not for a client to fill."""
    return (_kept_transform if len(profile) <= _LARGEST_KEPT else _new_transform)(profile, mode)


def _new_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion of ``mode`` to RGB in sRGB; None where it would change nothing."""
    source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    transform = ImageCms.ImageCmsTransform(source, ImageCms.ImageCmsProfile(srgb), mode, "RGB")
    if mode == "RGB":
        levels = np.arange(0, 256, 15, dtype=np.uint8)
        probe = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
        moved = np.asarray(transform.apply(Image.fromarray(probe))).astype(int) - probe
        if np.abs(moved).max() <= _UNSEEN:
            return None
    return transform


# Making one takes 2 to 5 ms, converting a picture 1 ms: a clinic has few kinds of camera.
_kept_transform = lru_cache(maxsize=4)(_new_transform)
