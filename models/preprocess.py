"""Bytes of an image file to the uint8 array that a model reads: the one way both sides use.

Everything that changes pixels happens here, for training and serving alike, so the two cannot
drift apart; everything numeric after it (scaling, normalisation) is inside the model's graph.
"""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin

from models.errors import CorruptImage, ImageTooLarge, UnsupportedImage

if TYPE_CHECKING:
    from models.dicom import Frame

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

_BYTES_PER_PIXEL = 17  # at most, while it is decoded, see below

DEFAULT_MAX_PIXELS = 64_000_000
"""Pixel limit unless the caller sets one: above any camera in clinical use.

While it is decoded, a pixel takes up to 9 bytes as PNG or BMP, 13 as JPEG or TIFF and 17 as WEBP: at
this limit 1.1 GB. Who decodes in several threads bounds their sum with ``admit``.
"""

HIGHEST_MAX_PIXELS = 89_000_000
"""No limit may be set above this: Pillow's own guard against decompression bombs begins there."""

Color = Literal["rgb", "grey"]

_DRAFT_RESERVE = 1.6
"""A JPEG may be decoded at a reduced scale as long as it keeps this many times the target size.

The result then differs from a full decode by 0.4 of 255 on average, as much as two ways of rounding do
(with a reserve of 2 by 0.3), and a photo of 12 megapixels is decoded at an eighth.
"""


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image as the model reads it, and what was learnt on the way.

    Attributes:
        pixels: uint8, ``[height, width, channels]``, RGB or one grey channel.
        format: name of the file format, a key of ``ACCEPTED_FORMATS``.
        width, height: size of the uploaded image in pixels, after EXIF orientation.
        several_frames: whether the file holds more frames or pages than the first, the only one used.
        burned_in: whether the file says that text is burnt into its pixels.
    """

    pixels: np.ndarray
    format: str
    width: int
    height: int
    several_frames: bool
    burned_in: bool = False


class _Target(NamedTuple):
    """What is wanted of an image, and what it may take; see ``decode``."""

    height: int
    width: int
    color: Color
    max_pixels: int
    admit: Callable[[int], AbstractContextManager[None]]

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
    admit: Callable[[int], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> Decoded:
    """Decode ``data`` and cut the largest centred ``width:height`` rectangle, scaled to size.

    The format is found from the content. EXIF orientation is applied, transparency is laid on
    white, 16-bit samples are scaled to 8, CMYK becomes RGB, and of several frames the first is
    taken. Scaling is antialiased bicubic. Embedded colour profiles are ignored, as they were
    when the training data was published. Of DICOM files, see ``models.dicom`` for which are read.

    Args:
        data: the whole file.
        height: rows of the result.
        width: columns of the result.
        color: ``"rgb"`` (3 channels) or ``"grey"`` (1 channel, ITU-R 601-2 luma).
        max_pixels: largest ``width x height`` that is decoded.
        admit: called with the number of pixels; what it gives is held while they are in memory.

    Raises:
        UnsupportedImage: no accepted format.
        ImageTooLarge: over ``max_pixels``; decided from the header.
        CorruptImage: truncated or damaged.
        MemoryError: there is none for it, which says nothing of the file.
    """
    target = _Target(height, width, color, max_pixels, admit)
    # What precedes this mark in a DICOM file is free, and may look like another format.
    return _decode_dicom(data, target) if data[128:132] == b"DICM" else _decode_file(data, target)


def _decode_file(
    data: bytes, target: _Target, *, formats: list[str] = _PILLOW_FORMATS, turn: bool = True
) -> Decoded:
    """Decode what Pillow reads. With ``turn`` the orientation in its EXIF tags is applied."""
    image = _open(data, formats)
    columns, rows = _stored_size(image)
    target.check_size(columns, rows)
    # Phones write JPEGs with an embedded preview; Pillow calls these MPO. The preview is no frame.
    preview = image.format == "MPO"
    format_ = "JPEG" if preview else str(image.format)
    with target.admit(columns * rows):
        try:
            # Not n_frames: for that, Pillow walks all pages of a TIFF, each against all before it.
            several_frames = not preview and bool(getattr(image, "is_animated", False))
            # Pillow turns TIFFs itself: their size already is, and after load() the tag is gone.
            turned = turn and format_ != "TIFF" and _orientation(image) >= 5
            full_width, full_height = image.size[::-1] if turned else image.size
            if format_ == "JPEG":
                _reduce_while_decoding(image, target.height, target.width, turned)
            image.load()
            orientation = _orientation(image) if turn else 1
            # One name for all that are of full size, so that each is freed as soon as the next is there;
            # and the conversion comes after scaling. Else a large image would be in memory four times.
            image = _resizable(image)
            white = _white_level(image)
            image = _upright(image, orientation)
            pixels = _pixels(image, target, white)
        except MemoryError:
            raise  # says nothing of the file
        except Exception as error:
            # Pillow raises OSError, SyntaxError, ValueError, struct.error, zlib.error, IndexError …
            # on damaged files, without a common base: every one of them means the same here. But the JPEG
            # and WebP codecs say so of a lack of memory, too: this is a MemoryError where there is none.
            np.empty(_BYTES_PER_PIXEL * columns * rows, np.uint8)
            raise CorruptImage(
                f"The {format_} image is truncated or damaged and cannot be decoded."
            ) from error
    return Decoded(pixels, format_, full_width, full_height, several_frames)


def _decode_dicom(data: bytes, target: _Target) -> Decoded:
    """Decode the first frame of a DICOM file. Its EXIF tags, if any, do not count."""
    frame = _dicom_frame(data)
    target.check_size(frame.columns, frame.rows)
    if frame.jpeg is not None:
        picture = _decode_file(frame.jpeg, target, formats=["JPEG"], turn=False)
        if (picture.width, picture.height) != (frame.columns, frame.rows):
            raise CorruptImage("The DICOM file is damaged: its frame is not of the size that it states.")
        pixels = picture.pixels
    else:
        with target.admit(frame.columns * frame.rows):
            mode, samples = frame.samples()
            size = (frame.columns, frame.rows)
            image = Image.frombuffer(mode, size, samples, "raw", mode, 0, 1)
            del samples
            image = _resizable(image)
            pixels = _pixels(image, target, _white_level(image))
    if frame.inverted:
        pixels = 255 - pixels
    return Decoded(pixels, "DICOM", frame.columns, frame.rows, frame.several_frames, frame.burned_in)


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


def _reduce_while_decoding(image: Image.Image, height: int, width: int, turned: bool) -> None:
    """Let the JPEG codec scale down by a power of two, keeping a reserve over the target."""
    if turned:
        height, width = width, height
    # draft() wants both sides at least as large as asked; the crop makes one side the tight one.
    scale = min(image.width / width, image.height / height) / _DRAFT_RESERVE
    if scale >= 2:
        image.draft(image.mode, (int(image.width / scale), int(image.height / scale)))


def _resizable(image: Image.Image) -> Image.Image:
    """Any mode Pillow decodes to, as one that scales without loss: RGB, L, RGBA, I or F."""
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if image.mode in ("I", "F", "RGBA") or (image.mode in ("RGB", "L") and not transparent):
        return image
    if image.mode.startswith("I;16"):
        return image.convert("I")
    return image.convert("RGBA" if transparent else "RGB")


def _white_level(image: Image.Image) -> float:
    """The sample that becomes 255.

    Pillow reads 16-bit grey PNGs and TIFFs as 32-bit; wider or real-valued data is scaled by its
    own range, there being no standard one.
    """
    if image.mode not in ("I", "F"):
        return 255.0
    top = float(np.nan_to_num(image.getextrema()[1]))
    return 65535.0 if image.mode == "I" and top <= 65535 else max(top, 1.0)


def _to_8_bit(image: Image.Image, white: float) -> Image.Image:
    """A scaled image as ``RGB`` or ``L``, transparency laid on white."""
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64)) / white * 255.0
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    if image.mode == "RGBA":
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image


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


def _pixels(image: Image.Image, target: _Target, white: float) -> np.ndarray:
    """The uint8 ``[height, width, channels]`` that a model reads, of an upright image of full size."""
    fitted = _to_8_bit(_fit(image, target.height, target.width), white)
    pixels = np.asarray(fitted.convert("L" if target.color == "grey" else "RGB"))
    return pixels.reshape(target.height, target.width, -1)


def _fit(image: Image.Image, height: int, width: int) -> Image.Image:
    """The largest centred rectangle of the target's aspect ratio, scaled to the target."""
    scale = min(image.width / width, image.height / height)
    # Rounding may carry the product a hair past the image's edge, which resize() refuses.
    crop_width, crop_height = min(scale * width, image.width), min(scale * height, image.height)
    left, top = (image.width - crop_width) / 2, (image.height - crop_height) / 2
    right, bottom = min(left + crop_width, image.width), min(top + crop_height, image.height)
    return image.resize(
        (width, height),
        Image.Resampling.BICUBIC,
        box=(left, top, right, bottom),
        reducing_gap=2.0,
    )
