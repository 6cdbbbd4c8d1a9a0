"""Decodes an image file to the uint8 array that a model reads.

Training and serving both use this module for everything that changes pixels, so the two cannot differ.
All later arithmetic (scaling to floats, normalisation) is part of the model's graph.
"""

import io
import traceback
import warnings
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin

from models.errors import CorruptImage, ImageTooLarge, UnsupportedImage
from models.jpeg import load_jpeg
from models.samples import SampleInfo, sample_info, to_resizable, white_level
from models.scaling import Color, crop_and_scale

if TYPE_CHECKING:
    from models.dicom import Frame

# A mere warning would let the image through. Python would also keep the text of each warning forever.
warnings.simplefilter("error", Image.DecompressionBombWarning)

ACCEPTED_FORMATS: dict[str, str] = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
}
"""Maps each supported format (Pillow's names, DICOM and HEIC) to its media type."""

_PILLOW_FORMATS = list(ACCEPTED_FORMATS)

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")

if find_spec("pydicom") is not None:  # the optional extra `dicom`
    ACCEPTED_FORMATS["DICOM"] = "application/dicom"

if find_spec("pillow_heif") is not None:  # the optional extra `heif`
    # HEIC is HEIF with one of its codecs. Clients send either type.
    ACCEPTED_FORMATS |= {"HEIF": "image/heif", "HEIC": "image/heic"}

BYTES_PER_PIXEL = 17
"""Peak memory of decoding, in bytes per pixel: 9 for PNG and BMP, 10 HEIF, 13 JPEG and TIFF, 17 WEBP."""

DEFAULT_MAX_PIXELS = 64_000_000
"""Default pixel limit, above any camera in clinical use. Decoding such an image takes 1.1 GB."""

HIGHEST_MAX_PIXELS = 89_000_000
"""Highest pixel limit that can be set: above it, Pillow's own guard against decompression bombs applies."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image as the model reads it, with properties of its file.

    Attributes:
        pixels: uint8 ``[height, width, channels]``, RGB or one grey channel.
        format: name of the file format, a key of ``ACCEPTED_FORMATS``.
        width, height: size of the original image in pixels, after EXIF orientation is applied.
        several_frames: whether the file holds several frames or pages; only the first is used.
        burned_in: whether the file declares that its pixels contain burnt-in text.
        profile_ignored: whether the file has a colour profile that could not be used.
    """

    pixels: np.ndarray
    format: str
    width: int
    height: int
    several_frames: bool
    burned_in: bool = False
    profile_ignored: bool = False


class _Target(NamedTuple):
    """Size and colour of the result, and the pixel limit; see ``decode``."""

    height: int
    width: int
    color: Color
    max_pixels: int

    def check_size(self, columns: int, rows: int) -> None:
        """Raise ImageTooLarge if the size exceeds the limit."""
        if columns * rows > self.max_pixels:
            raise ImageTooLarge(
                f"The image is {columns} x {rows} pixels; at most {self.max_pixels:,} pixels are accepted."
            )

    def crop_and_scale(self, image: Image.Image, info: SampleInfo, white: float) -> tuple[np.ndarray, bool]:
        """Return the pixels, and whether a profile was ignored; see ``models.scaling``."""
        return crop_and_scale(image, info, white, height=self.height, width=self.width, color=self.color)


def decode(
    data: bytes,
    *,
    height: int = 224,
    width: int = 224,
    color: Color = "rgb",
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Decoded:
    """Decode ``data``, crop the largest centred ``width:height`` rectangle, and scale it to size.

    The format is detected from the content. EXIF orientation is applied, transparency is laid on white,
    16-bit samples are scaled to 8 bits, CMYK becomes RGB, an embedded ICC profile is converted to sRGB.
    Only the first frame is decoded, of HEIF the primary image. Scaling is antialiased bicubic.
    ``models.dicom`` states which DICOM files are supported.

    Args:
        data: the whole file.
        height: rows of the result.
        width: columns of the result.
        color: ``"rgb"`` (3 channels) or ``"grey"`` (1 channel, ITU-R 601-2 luma).
        max_pixels: largest accepted product of the image's width and height.

    Raises:
        UnsupportedImage: the file is not an image of a supported format.
        ImageTooLarge: the image exceeds ``max_pixels``; found in the header, before decoding.
        CorruptImage: the file is truncated or damaged; ``models.jpeg`` states which damage to JPEGs is
            detected.
        MemoryError: memory ran out; this does not mean that the file is damaged.
    """
    target = _Target(height, width, color, max_pixels)
    # Checked first, because the 128 bytes before this mark are free and may look like another format.
    if data[128:132] == b"DICM":
        return _decode_dicom(data, target)
    return _decode_heif(data, target) if _is_heif(data) else _decode_file(data, target)


def _decode_file(
    data: bytes,
    target: _Target,
    *,
    formats: list[str] = _PILLOW_FORMATS,
    apply_orientation: bool = True,
    profile: bytes | None = None,
) -> Decoded:
    """Decode a file that Pillow supports.

    Args:
        data: the whole file.
        target: size and colour of the result.
        formats: Pillow's names of the accepted formats.
        apply_orientation: whether the EXIF orientation is applied.
        profile: an ICC profile that replaces the file's own.
    """
    image = _open(data, formats)
    columns, rows = _stored_size(image)
    target.check_size(columns, rows)
    # Phones write JPEGs with an embedded preview, which Pillow calls MPO. The preview is not a frame.
    preview = image.format == "MPO"
    format_ = "JPEG" if preview else str(image.format)
    try:
        # n_frames would make Pillow compare each page of a TIFF with all pages before it.
        several_frames = not preview and bool(getattr(image, "is_animated", False))
        size = image.size  # of a TIFF, load() changes it: it applies the orientation
        if format_ == "JPEG":
            transposed = apply_orientation and _orientation(image) >= 5
            load_jpeg(image, data, height=target.height, width=target.width, transposed=transposed)
        else:
            # load() comes before EXIF is read: reading EXIF makes Pillow load a PNG and ignore its damage.
            image.load()
        orientation = _orientation(image) if apply_orientation else 1
        full_width, full_height = size[::-1] if orientation >= 5 else size
        # All full-size images share one name, so that each is freed when the next exists. The conversion
        # comes after scaling. Otherwise a large image would be in memory four times.
        info = sample_info(image)
        if profile is not None:
            info = info._replace(profile=profile)
        image = to_resizable(image, info)
        white = white_level(image, info)
        image = _upright(image, orientation)
        pixels, ignored = target.crop_and_scale(image, info, white)
    except (MemoryError, CorruptImage):
        raise
    except Exception as error:
        # On damaged files, Pillow raises OSError, SyntaxError, ValueError, struct.error, zlib.error,
        # IndexError …, which have no common base. The JPEG and WebP codecs raise the same errors when
        # memory runs out. np.empty() then raises MemoryError. What the image holds is freed first: a damaged
        # image of nearly the largest size would count as too costly.
        _clear_frames(error)
        del image
        np.empty(BYTES_PER_PIXEL * columns * rows, np.uint8)
        raise CorruptImage(f"The {format_} image is truncated or damaged and cannot be decoded.") from error
    return Decoded(pixels, format_, full_width, full_height, several_frames, profile_ignored=ignored)


def _clear_frames(error: BaseException | None) -> None:
    """Drop what the functions that raised ``error`` hold in their variables."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def _decode_dicom(data: bytes, target: _Target) -> Decoded:
    """Decode the first frame of a DICOM file. EXIF tags in it are ignored."""
    frame = _dicom_frame(data)
    target.check_size(frame.columns, frame.rows)
    if frame.jpeg is not None:
        decoded = _decode_file(
            frame.jpeg, target, formats=["JPEG"], apply_orientation=False, profile=frame.profile
        )
        if (decoded.width, decoded.height) != (frame.columns, frame.rows):
            raise CorruptImage("The DICOM file is damaged: the size of its frame differs from its header.")
        pixels, ignored = decoded.pixels, decoded.profile_ignored
    else:
        mode, samples = frame.samples()
        size = (frame.columns, frame.rows)
        image = Image.frombuffer(mode, size, samples, "raw", mode, 0, 1)
        del samples
        info = SampleInfo(grey=mode == "L", profile=frame.profile)
        image = to_resizable(image, info)
        pixels, ignored = target.crop_and_scale(image, info, white_level(image, info))
    if frame.inverted:
        pixels = 255 - pixels
    return Decoded(
        pixels,
        "DICOM",
        frame.columns,
        frame.rows,
        frame.several_frames,
        burned_in=frame.burned_in,
        profile_ignored=ignored,
    )


def _decode_heif(data: bytes, target: _Target) -> Decoded:
    try:
        import_module("models.heif")  # needs pillow-heif, an optional extra
    except ModuleNotFoundError as error:
        raise UnsupportedImage(
            "HEIC files are not supported by this installation: it lacks the extra 'heif'."
        ) from error
    return _decode_file(data, target, formats=["HEIF"], apply_orientation=False)


def _is_heif(data: bytes) -> bool:
    """Whether the first box (ISO/IEC 14496-12, ``ftyp``) has a brand of HEVC images (ISO/IEC 23008-12)."""
    if data[4:8] != b"ftyp":
        return False
    brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    return any(brands[at : at + 4] in _HEIF_BRANDS for at in range(0, len(brands), 4))


def _dicom_frame(data: bytes) -> "Frame":
    try:
        from models.dicom import read_frame  # needs pydicom, an optional extra
    except ModuleNotFoundError as error:
        raise UnsupportedImage(
            "DICOM files are not supported by this installation: it lacks the extra 'dicom'."
        ) from error
    return read_frame(data)


def _open(data: bytes, formats: list[str]) -> Image.Image:
    """Read the header only, and accept only ``formats``."""
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge("The image has more pixels than this service accepts.") from error
    except MemoryError:
        raise
    except Exception as error:
        # Pillow's header parsers raise errors of many types without a common base.
        if _has_known_signature(data) or _is_heif(data):
            raise CorruptImage("The image is truncated or damaged; its header is unreadable.") from error
        names = ", ".join(ACCEPTED_FORMATS)
        raise UnsupportedImage(f"The data is not an image of an accepted format ({names}).") from error
    return image


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height in memory. Pillow reads a TIFF by tiles, which may exceed the image."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.size
    tags = image.tag_v2
    width, height = tags.get(TiffImagePlugin.TILEWIDTH, 0), tags.get(TiffImagePlugin.TILELENGTH, 0)
    if not isinstance(width, int) or not isinstance(height, int):
        raise CorruptImage("The TIFF image is damaged; the size of its tiles is not a number.")
    return max(image.width, width), max(image.height, height)


def _has_known_signature(data: bytes) -> bool:
    """Whether ``data`` begins with the signature of a supported format."""
    return (
        data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))
        or (data.startswith(b"RIFF") and data[8:12] == b"WEBP")
        or (data.startswith(b"BM") and len(data) > 26 and data[6:10] == b"\0\0\0\0")
    )


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, or 1 (upright) if it is missing or unreadable."""
    try:
        value = image.getexif().get(0x0112, 1)
    except MemoryError:
        raise
    except Exception:
        # Pillow's EXIF parser raises errors of many types without a common base. The pixels may be intact.
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    """Rotate or flip an image upright (EXIF 2.32, tag 0x0112)."""
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image
