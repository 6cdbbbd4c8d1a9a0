"""What a plain, strict Pillow makes of a file, for comparison with ``models.preprocess.decode``.

What it refuses is refused; what it loads in an accepted format is accepted, with the same pixels. The
exceptions are these:

- Pictures over the limit of pixels are refused unread.
- A JPEG whose compressed data ends before the picture or goes on after it is refused. Pillow loads it.
- Of samples without one standard range (32 bits, real numbers, a TIFF with its own maximum), and of
  colour profiles other than ``PROFILES``, no pixels are compared.
- Of damaged JPEGs that are decoded at a smaller scale, no pixels are compared: their damaged coefficients are
  clipped after scaling here, and before it there.
- Damaged EXIF tags turn nothing. Pillow's transposition may fail on them.
- A DICOM file is compared with pydicom where both read it: other kinds are read there than here. Of several
  elements of pixel data, which the standard forbids, pydicom takes the last and ``decode`` the first.
"""

import io
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from PIL import Image, ImageCms, ImageOps

from models.errors import ImageError, ImageTooLarge
from models.preprocess import Decoded, decode
from tests.icc_profiles import SPACES, rgb_profile

PROFILES = frozenset(rgb_profile(name) for name in SPACES)

_FORMATS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP"]
if find_spec("pillow_heif") is not None:
    import_module("models.heif")
    _FORMATS.append("HEIF")

_PIXEL_DATA_TAG = b"\xe0\x7f\x10\x00"

TOLERANCE = 2.5
"""By how much pixels may differ, of 255, on average: scaling comes in another place here."""

ENLARGED_TOLERANCE = 10.0
"""The same of an enlarged picture with transparency.

The bicubic filter overshoots. What it overshoots by is clipped before the picture is laid on white here, and
after it there. It shows where a few pixels are enlarged to the whole picture.
"""


def compare(data: bytes, *, max_pixels: int, side: int = 224, intact: bool = False) -> str:
    """Decode ``data`` both ways.

    Args:
        data: the file.
        max_pixels: the limit of both.
        side: of the picture that is compared.
        intact: whether the file is not damaged: no JPEG may then be refused for its data.

    Returns:
        What became of it.

    Raises:
        AssertionError: the two disagree.
    """
    try:
        found = decode(data, height=side, width=side, max_pixels=max_pixels)
    except ImageTooLarge as error:
        return type(error).__name__
    except ImageError as error:
        refusal = error
    else:
        return _compare_accepted(found, data, intact=intact)
    known = "its compressed data" in str(refusal) and not intact
    assert known or data[128:132] == b"DICM" or _loaded(data) is None, f"Pillow loads it; here: {refusal}"
    return type(refusal).__name__


def _compare_accepted(found: Decoded, data: bytes, *, intact: bool) -> str:
    if found.format == "DICOM":
        image = _loaded_dicom(data)
    else:
        image = _loaded(data)
        assert image is not None, "Pillow refuses it"
    if image is not None:
        _compare_pixels(found, image, intact=intact)
    return f"decoded {found.format}"


def _compare_pixels(found: Decoded, image: Image.Image, *, intact: bool) -> None:
    assert (found.width, found.height) == image.size
    shown = _shown(image)
    if shown is None:
        return
    side = len(found.pixels)
    if found.format in ("JPEG", "DICOM") and min(image.size) >= 3 * side and not intact:
        return
    left, top = (shown.width - min(shown.size)) / 2, (shown.height - min(shown.size)) / 2
    square = (left, top, shown.width - left, shown.height - top)
    bicubic = Image.Resampling.BICUBIC
    expected = np.asarray(shown.resize((side, side), bicubic, square, reducing_gap=2.0))
    enlarged = image.has_transparency_data and min(image.size) < side
    difference = np.abs(found.pixels.astype(int) - expected).mean()
    assert difference <= (ENLARGED_TOLERANCE if enlarged else TOLERANCE), f"pixels differ by {difference:.2f}"


def _loaded(data: bytes) -> Image.Image | None:
    """The picture at full size, upright; None where Pillow refuses it."""
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        image.load()
    except MemoryError:
        raise
    except Exception:  # Pillow's errors have no common base
        return None
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF tags
        return image


def _loaded_dicom(data: bytes) -> Image.Image | None:
    """The first frame, by pydicom; None where it reads none, or another."""
    import pydicom
    from pydicom.pixels.utils import pixel_array

    if data.count(_PIXEL_DATA_TAG) > 1:
        return None
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
        pixels = pixel_array(dataset, index=0)
    except MemoryError:
        raise
    except Exception:  # its errors have no common base, either
        return None
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = 255 - pixels
    return Image.fromarray(pixels)


def _shown(image: Image.Image) -> Image.Image | None:
    """``image`` as RGB of sRGB, on white; None where there is no one way to show it."""
    profile = image.info.get("icc_profile")
    if "icc_profile" in image.info and (profile not in PROFILES or image.mode != "RGB"):
        return None
    if image.mode == "F" or image.mode.startswith("I"):
        return _shown_wide(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    if profile:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
    return image


def _shown_wide(image: Image.Image) -> Image.Image | None:
    """Samples of 16 bits, or 12 by themselves."""
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if image.mode == "F" or 281 in tags or values.min() < 0 or values.max() > 65535:
        return None
    white = 4095 if tags.get(258) == (12,) else 65535
    return Image.fromarray((values.astype(np.int64) * 255 // white).astype(np.uint8)).convert("RGB")
