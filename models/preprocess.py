"""Bytes of an image file to the uint8 array that a model reads: the one way both sides use.

Everything that changes pixels happens here, for training and serving alike, so the two cannot
drift apart; everything numeric after it (scaling, normalisation) is inside the model's graph.
"""

import io
import math
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin

from models.errors import CorruptImage, ImageTooLarge, UnsupportedImage
from models.jpeg import load_jpeg
from models.samples import Meaning, displayed, meaning, resizable, white_level

if TYPE_CHECKING:
    from models.dicom import Frame

# As a warning it would let the image through, and Python would remember its text, with the number of
# pixels in it, for ever.
warnings.simplefilter("error", Image.DecompressionBombWarning)

ACCEPTED_FORMATS: dict[str, str] = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
}
"""Format name, Pillow's but for DICOM, to media type. Anything else is refused unread."""

_PILLOW_FORMATS = list(ACCEPTED_FORMATS)

if find_spec("pydicom") is not None:  # the optional extra `dicom`
    ACCEPTED_FORMATS["DICOM"] = "application/dicom"

BYTES_PER_PIXEL = 17
"""Bytes that a pixel takes at most while it is decoded: 9 as PNG or BMP, 13 as JPEG or TIFF, 17 as WEBP."""

DEFAULT_MAX_PIXELS = 64_000_000
"""Pixel limit unless the caller sets one: above any camera in clinical use. Such an image takes 1.1 GB."""

HIGHEST_MAX_PIXELS = 89_000_000
"""No limit may be set above this: Pillow's own guard against decompression bombs begins there."""

Color = Literal["rgb", "grey"]

_REDUCING_GAP = 2.0
"""A large image is first averaged over whole pixels, down to this many times the target size or more."""

_REACH = 1.5
"""By how many pixels of the result the bicubic filter looks beyond its own."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image as the model reads it, and what was learnt on the way.

    Attributes:
        pixels: uint8, ``[height, width, channels]``, RGB or one grey channel.
        format: name of the file format, a key of ``ACCEPTED_FORMATS``.
        width, height: size of the uploaded image in pixels, after EXIF orientation.
        several_frames: whether the file holds more frames or pages than the first, the only one used.
        burned_in: whether the file says that text is burnt into its pixels.
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
    """What is wanted of an image, and what it may take; see ``decode``."""

    height: int
    width: int
    color: Color
    max_pixels: int

    def check_size(self, columns: int, rows: int) -> None:
        """Raise ImageTooLarge for a size over the limit."""
        if columns * rows > self.max_pixels:
            raise ImageTooLarge(
                f"The image is {columns} x {rows} pixels; at most {self.max_pixels:,} pixels are accepted."
            )


def decode(
    data: bytes,
    *,
    height: int = 224,
    width: int = 224,
    color: Color = "rgb",
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Decoded:
    """Decode ``data`` and cut the largest centred ``width:height`` rectangle, scaled to size.

    The format is found from the content. EXIF orientation is applied, transparency is laid on
    white, 16-bit samples are scaled to 8, CMYK becomes RGB, and of several frames the first is
    taken. Scaling is antialiased bicubic. Colours are converted from an embedded ICC profile to sRGB.
    Of DICOM files, see ``models.dicom`` for which are read.

    Args:
        data: the whole file.
        height: rows of the result.
        width: columns of the result.
        color: ``"rgb"`` (3 channels) or ``"grey"`` (1 channel, ITU-R 601-2 luma).
        max_pixels: largest ``width x height`` that is decoded.

    Raises:
        UnsupportedImage: no accepted format.
        ImageTooLarge: over ``max_pixels``; decided from the header.
        CorruptImage: truncated or damaged; see ``models.jpeg`` for what is noticed of JPEGs.
        MemoryError: there is none for it, which says nothing of the file.
    """
    target = _Target(height, width, color, max_pixels)
    # What precedes this mark in a DICOM file is free, and may look like another format.
    return _decode_dicom(data, target) if data[128:132] == b"DICM" else _decode_file(data, target)


def _decode_file(
    data: bytes,
    target: _Target,
    *,
    formats: list[str] = _PILLOW_FORMATS,
    turn: bool = True,
    profile: bytes | None = None,
) -> Decoded:
    """Decode what Pillow reads.

    With ``turn`` the orientation in its EXIF tags is applied. ``profile`` takes the place of its own.
    """
    image = _open(data, formats)
    columns, rows = _stored_size(image)
    target.check_size(columns, rows)
    # Phones write JPEGs with an embedded preview; Pillow calls these MPO. The preview is no frame.
    preview = image.format == "MPO"
    format_ = "JPEG" if preview else str(image.format)
    try:
        # Not n_frames: for that, Pillow walks all pages of a TIFF, each against all before it.
        several_frames = not preview and bool(getattr(image, "is_animated", False))
        size = image.size  # of a TIFF: after orientation, which Pillow itself applies in load()
        if format_ == "JPEG":
            turned = turn and _orientation(image) >= 5
            load_jpeg(image, data, height=target.height, width=target.width, turned=turned)
        else:
            # Before EXIF is read: for that, Pillow loads a PNG, and hides that it is damaged.
            image.load()
        orientation = _orientation(image) if turn else 1
        full_width, full_height = size[::-1] if orientation >= 5 else size
        # One name for all that are of full size, so that each is freed as soon as the next is there;
        # and the conversion comes after scaling. Else a large image would be in memory four times.
        said = meaning(image)
        if profile is not None:
            said = said._replace(profile=profile)
        image = resizable(image, said)
        white = white_level(image, said)
        image = _upright(image, orientation)
        pixels, ignored = _pixels(image, target, said, white)
    except (MemoryError, CorruptImage):
        raise  # the first says nothing of the file
    except Exception as error:
        # Pillow raises OSError, SyntaxError, ValueError, struct.error, zlib.error, IndexError …
        # on damaged files, without a common base: every one of them means the same here. But libjpeg
        # reports a failed allocation in the same way. This allocation then raises MemoryError.
        np.empty(BYTES_PER_PIXEL * columns * rows, np.uint8)
        raise CorruptImage(f"The {format_} image is truncated or damaged and cannot be decoded.") from error
    return Decoded(pixels, format_, full_width, full_height, several_frames, profile_ignored=ignored)


def _decode_dicom(data: bytes, target: _Target) -> Decoded:
    """Decode the first frame of a DICOM file. Its EXIF tags, if any, do not count."""
    frame = _dicom_frame(data)
    target.check_size(frame.columns, frame.rows)
    if frame.jpeg is not None:
        picture = _decode_file(frame.jpeg, target, formats=["JPEG"], turn=False, profile=frame.profile)
        if (picture.width, picture.height) != (frame.columns, frame.rows):
            raise CorruptImage("The DICOM file is damaged: its frame is not of the size that it states.")
        pixels, ignored = picture.pixels, picture.profile_ignored
    else:
        mode, samples = frame.samples()
        size = (frame.columns, frame.rows)
        image = Image.frombuffer(mode, size, samples, "raw", mode, 0, 1)
        del samples
        said = Meaning(grey=mode == "L", profile=frame.profile)
        image = resizable(image, said)
        pixels, ignored = _pixels(image, target, said, white_level(image, said))
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


def _dicom_frame(data: bytes) -> "Frame":
    try:
        # Imported here: it needs pydicom, an optional extra.
        from models.dicom import read_frame
    except ModuleNotFoundError as error:
        raise UnsupportedImage(
            "This is a DICOM file, and this installation does not read them: it lacks the extra 'dicom'."
        ) from error
    return read_frame(data)


def _open(data: bytes, formats: list[str]) -> Image.Image:
    """Read the header only, accepting no format but ``formats``."""
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge("The image has more pixels than this service accepts.") from error
    except MemoryError:
        raise  # says nothing of the file
    except Exception as error:
        # As when decoding: Pillow's parsers of headers raise errors of many kinds without a common base.
        if _looks_like_accepted(data):
            raise CorruptImage("The image is truncated or damaged; its header is unreadable.") from error
        names = ", ".join(ACCEPTED_FORMATS)
        raise UnsupportedImage(f"The data is not an image of an accepted format ({names}).") from error
    return image


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height in memory. A TIFF is read tile by tile, and a tile may be larger than the image."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.size
    tags = image.tag_v2
    width, height = tags.get(TiffImagePlugin.TILEWIDTH, 0), tags.get(TiffImagePlugin.TILELENGTH, 0)
    if not isinstance(width, int) or not isinstance(height, int):
        raise CorruptImage("The TIFF image is damaged; the size of its tiles is no number.")
    return max(image.width, width), max(image.height, height)


def _looks_like_accepted(data: bytes) -> bool:
    """Whether ``data`` begins as one of the accepted formats does."""
    return (
        data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))
        or (data.startswith(b"RIFF") and data[8:12] == b"WEBP")
        or (data.startswith(b"BM") and len(data) > 26 and data[6:10] == b"\0\0\0\0")
    )


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where it is missing or unreadable."""
    try:
        value = image.getexif().get(0x0112, 1)
    except MemoryError:
        raise  # says nothing of the file
    except Exception:
        # Pillow's parser of EXIF raises errors of many kinds without a common base; a damaged block is no
        # reason to refuse intact pixels.
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
    """Undo the camera's rotation (EXIF 2.32, tag 0x0112)."""
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def _pixels(image: Image.Image, target: _Target, said: Meaning, white: float) -> tuple[np.ndarray, bool]:
    """The uint8 ``[height, width, channels]`` that a model reads, of an upright image of full size.

    With it goes whether a colour profile was ignored.
    """
    box, ignored = _box(image, target), False
    if said.profile is not None:
        image, box = _reduced(image, box, target)
        image, ignored = displayed(image, said, white)
    image = image.resize(
        (target.width, target.height), Image.Resampling.BICUBIC, box=box, reducing_gap=_REDUCING_GAP
    )
    if said.profile is None:
        image, _ = displayed(image, said, white)
    pixels = np.asarray(image.convert("L" if target.color == "grey" else "RGB"))
    return pixels.reshape(target.height, target.width, -1), ignored


_Box = tuple[float, float, float, float]


def _box(image: Image.Image, target: _Target) -> _Box:
    """The largest centred rectangle of the target's aspect ratio: left, top, right and bottom."""
    scale = min(image.width / target.width, image.height / target.height)
    # Rounding may carry the product a hair past the image's edge, which resize() refuses.
    width, height = min(scale * target.width, image.width), min(scale * target.height, image.height)
    left, top = (image.width - width) / 2, (image.height - height) / 2
    return left, top, min(left + width, image.width), min(top + height, image.height)


def _reduced(image: Image.Image, box: _Box, target: _Target) -> tuple[Image.Image, _Box]:
    """What is in ``box``, reduced by a whole number, as resize() would begin; and the box within it.

    Colours are converted at this size: rounded to 8 bits once more, they are then averaged. Models are
    that sensitive: converted at the target's size, probabilities move by up to 0.035, so by up to 0.019.
    """
    scale = (box[2] - box[0]) / target.width
    reach = _REACH * scale  # of the filter, beyond the box
    left, top = max(0, int(box[0] - reach)), max(0, int(box[1] - reach))
    right, bottom = math.ceil(box[2] + reach), math.ceil(box[3] + reach)
    factor = max(1, int(scale / _REDUCING_GAP))
    image = image.reduce(factor, (left, top, min(right, image.width), min(bottom, image.height)))
    inner = (
        (box[0] - left) / factor,
        (box[1] - top) / factor,
        (box[2] - left) / factor,
        (box[3] - top) / factor,
    )
    return image, inner
