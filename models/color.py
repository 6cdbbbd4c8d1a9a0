"""Converts colours from an embedded ICC profile to sRGB, the colour space of the training data.

The caller scales the image down first, so the cost does not depend on the size of the file.

Reference: ICC.1:2022, section 7.2 (profile header).
"""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
"""Maps the colour space in a profile's header to Pillow's mode."""

_MAX_PROFILE_BYTES = 4_000_000
"""Larger profiles are ignored. Profiles of printing presses have up to 3 MB, those of cameras a few kB."""

_MAX_CACHED_PROFILE_BYTES = 100_000
"""Conversions of larger profiles are not cached. Profiles of cameras have 0.5 to 10 kB."""

_SRGB_TOLERANCE = 2
"""A profile that changes no sample by more than this (of 255) counts as sRGB."""


def to_srgb(image: Image.Image, profile: object, *, grey: bool) -> Image.Image | None:
    """Convert a small image from the colours of ``profile`` to sRGB.

    Args:
        image: an image of mode ``RGB``, ``RGBA``, ``L`` or ``CMYK``.
        profile: the bytes of an ICC profile; any other value counts as a broken profile.
        grey: whether the file has one channel besides transparency.

    Returns:
        ``image`` itself if the profile is sRGB, otherwise a new image of mode ``RGB`` or ``RGBA``.
        None if the profile is broken, too large, or does not match the image's colour space.
    """
    if not isinstance(profile, bytes) or len(profile) > _MAX_PROFILE_BYTES:
        return None
    mode = _MODES.get(profile[16:20])
    # A grey image may have an RGB profile: its samples then stand for equal red, green and blue.
    fits = {"RGB": image.mode != "CMYK", "L": grey, "CMYK": image.mode == "CMYK"}
    if mode is None or not fits[mode]:
        return None
    colors = image.getchannel(0) if mode == "L" else image.convert(mode)
    try:
        transform = _transform(profile, mode)
        converted = image if transform is None else transform.apply(colors)
    except (OSError, ValueError, ImportError):  # ImportError: Pillow was built without Little CMS
        return None
    if image.mode == "RGBA" and converted is not image:
        converted.putalpha(image.getchannel("A"))
    return converted


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return ``_new_transform(…)``, cached for small profiles only, so that clients cannot fill memory."""
    cached = len(profile) <= _MAX_CACHED_PROFILE_BYTES
    return (_cached_transform if cached else _new_transform)(profile, mode)


def _new_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the conversion from ``mode`` to sRGB; None if the profile already is sRGB."""
    source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    transform = ImageCms.ImageCmsTransform(source, ImageCms.ImageCmsProfile(srgb), mode, "RGB")
    if mode == "RGB":
        levels = np.arange(0, 256, 15, dtype=np.uint8)
        probe = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
        moved = np.asarray(transform.apply(Image.fromarray(probe))).astype(int) - probe
        if np.abs(moved).max() <= _SRGB_TOLERANCE:
            return None
    return transform


# Building a transform takes 2 to 5 ms and applying it 1 ms. Four entries suffice: a clinic has few cameras.
_cached_transform = lru_cache(maxsize=4)(_new_transform)
