"""Reads the first frame of a DICOM photograph; needs the optional extra ``dicom`` (pydicom).

Only the tags that describe the pixels are read; names of patients, dates and institutions are skipped.
Supported are photographs with 8 bits per sample, uncompressed or as JPEG, because cameras and
dermatoscopes store them in these two ways. Other encodings (wider samples, palettes, deflate, JPEG 2000 …)
are rejected with a message that names the reason. This module does not decode a JPEG frame; the caller does.

References: DICOM PS3.3 C.7.6.3 (image pixel module), PS3.5 section 8 and A.4 (encoding of pixel data).
"""

import logging
import struct
import warnings
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments
from pydicom.filereader import read_dataset

from models.errors import CorruptImage, UnsupportedImage

# pydicom quotes invalid values in its log and its warnings; these may contain data of a patient.
logging.getLogger("pydicom").disabled = True
warnings.filterwarnings("ignore", category=UserWarning, module="pydicom")

PHOTOGRAPHS = {
    uid.SecondaryCaptureImageStorage: "Secondary Capture",
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage: "Multi-frame Grayscale Byte Secondary Capture",
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage: "Multi-frame True Color Secondary Capture",
    uid.VLPhotographicImageStorage: "VL Photographic Image",
    uid.DermoscopicPhotographyImageStorage: "Dermoscopic Photography Image",
}
"""SOP classes that may hold a photograph of skin; endoscopy, microscopy and slides cannot."""

_PREFIX = 132  # bytes before the first element: the preamble and "DICM"
_MAX_META_BYTES = 65_536
_MAX_READS = 10_000
"""Limit on the number of headers and values read, including nested ones and fragments.

Photographs have a few hundred. Without the limit, a file full of nested empty items keeps pydicom busy for
minutes.
"""

_TRANSFER_SYNTAX = 0x0002_0010
_SOP_CLASS = 0x0008_0016
_SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES = 0x0028_0002, 0x0028_0004, 0x0028_0006, 0x0028_0008
_ROWS, _COLUMNS, _ALLOCATED, _STORED = 0x0028_0010, 0x0028_0011, 0x0028_0100, 0x0028_0101
_SIGNED, _BURNED_IN, _PROFILE = 0x0028_0103, 0x0028_0301, 0x0028_2000
_WANTED: list[Any] = [
    _SOP_CLASS, _SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES, _ROWS, _COLUMNS, _ALLOCATED, _STORED, _SIGNED,
    _BURNED_IN, _PROFILE,
]  # fmt: skip
_PIXEL_DATA = 0x7FE0_0010
_UNDEFINED = 0xFFFF_FFFF

_SAMPLES_OF = {"MONOCHROME1": 1, "MONOCHROME2": 1, "RGB": 3, "YBR_FULL": 3, "YBR_FULL_422": 3}

# Adobe's APP14 marker with transform 0: the three components are RGB. Without it, a decoder assumes YCbCr.
# A marker of the stream itself comes later and takes precedence.
_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"


class Frame(NamedTuple):
    """The first frame, not yet decoded.

    Attributes:
        columns, rows: size in pixels, as stated in the header.
        photometric: photometric interpretation, a key of ``_SAMPLES_OF``.
        planar: whether each colour is stored as a plane of its own.
        jpeg: the frame as a JPEG file; None if it is uncompressed.
        raw: the frame's samples; empty if it is a JPEG.
        several_frames: whether the file holds more frames.
        burned_in: whether the file declares that its pixels contain burnt-in text.
        profile: the embedded ICC profile, None if there is none.
    """

    columns: int
    rows: int
    photometric: str
    planar: bool
    jpeg: bytes | None
    raw: memoryview
    several_frames: bool
    burned_in: bool
    profile: bytes | None

    @property
    def inverted(self) -> bool:
        """Whether high samples mean dark."""
        return self.photometric == "MONOCHROME1"

    def samples(self) -> tuple[str, NDArray[np.uint8]]:
        """Return Pillow's mode and the samples, uint8 ``[rows, columns]`` or ``[rows, columns, 3]``."""
        values = np.frombuffer(self.raw, np.uint8)
        if self.photometric == "YBR_FULL_422":  # two luma samples, then the Cb and Cr that they share
            quads = values.reshape(self.rows, self.columns // 2, 4)
            luma = quads[..., :2].reshape(self.rows, self.columns)
            blue, red = (np.repeat(quads[..., channel], 2, axis=1) for channel in (2, 3))
            return "YCbCr", np.stack([luma, blue, red], axis=-1)
        if _SAMPLES_OF[self.photometric] == 1:
            return "L", values.reshape(self.rows, self.columns)
        mode = "RGB" if self.photometric == "RGB" else "YCbCr"
        if self.planar:
            planes = values.reshape(3, self.rows, self.columns)
            return mode, np.ascontiguousarray(np.moveaxis(planes, 0, -1))
        return mode, values.reshape(self.rows, self.columns, 3)


def read_frame(data: bytes) -> Frame:
    """Find the first frame of the DICOM file ``data``, without decoding it.

    Raises:
        UnsupportedImage: the file holds no photograph, or its encoding is not supported.
        CorruptImage: the file is truncated or damaged.
        MemoryError: memory ran out; this does not mean that the file is damaged.
    """
    try:
        return _read_frame(data)
    except (MemoryError, UnsupportedImage, CorruptImage):
        raise
    except Exception:
        # On damaged files, pydicom raises errors of any type, including RecursionError. Their texts quote
        # values of the file, hence `from None`.
        raise CorruptImage("The DICOM file is truncated or damaged.") from None


def _read_frame(data: bytes) -> Frame:
    syntax, start = _transfer_syntax(data)
    stream = _Stream(data)
    stream.seek(start)
    dataset, length = _read_header(stream, implicit=syntax == uid.ImplicitVRLittleEndian)
    if _text(dataset, _SOP_CLASS) not in PHOTOGRAPHS:
        raise UnsupportedImage(
            "The DICOM file does not hold a photograph; expected the SOP class "
            f"{', '.join(PHOTOGRAPHS.values())}."
        )
    if length is None:
        raise CorruptImage("The DICOM file is truncated or damaged: it has no pixel data.")
    photometric = _photometric(dataset)
    columns, rows = _number(dataset, _COLUMNS), _number(dataset, _ROWS)
    frames = int(_text(dataset, _FRAMES) or 1)
    if min(columns, rows, frames) < 1:
        raise CorruptImage("The DICOM file is damaged: its columns, rows or frames are less than 1.")
    jpeg, raw = None, memoryview(b"")
    if syntax == uid.JPEGBaseline8Bit:
        if length != _UNDEFINED:
            raise CorruptImage("The DICOM file is damaged: its JPEG is not encapsulated.")
        jpeg = _jpeg(stream, photometric, several=frames > 1)
    else:
        if photometric == "YBR_FULL_422" and columns % 2:  # a JPEG may have an odd number of columns
            raise CorruptImage(
                "The DICOM file is damaged: its pixels come in pairs, but its columns are odd."
            )
        size = columns * rows * (2 if photometric == "YBR_FULL_422" else _SAMPLES_OF[photometric])
        end = stream.tell() + length
        if length == _UNDEFINED or length < size * frames or end > len(data):
            raise CorruptImage("The DICOM file is truncated or damaged: pixels are missing.")
        raw = memoryview(data)[stream.tell() : stream.tell() + size]
    return Frame(
        columns,
        rows,
        photometric,
        planar=_SAMPLES_OF[photometric] == 3 and _number(dataset, _PLANAR, default=0) == 1,
        jpeg=jpeg,
        raw=raw,
        several_frames=frames > 1,
        burned_in=_text(dataset, _BURNED_IN) == "YES",
        profile=_value(dataset, _PROFILE) or None,
    )


class _Stream(BytesIO):
    """Bytes in memory with a limit on the number of reads."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > _MAX_READS:
            raise CorruptImage("The DICOM file has more elements than any photograph.")
        return super().read(size)


def _transfer_syntax(data: bytes) -> tuple[str, int]:
    """Return the transfer syntax, and the offset at which the data set starts (after group 2).

    It is checked before anything else, because pydicom inflates a deflated file without a size limit. Some
    files do not state the length of group 2, so it is read to its end.
    """
    meta = _Stream(data[_PREFIX : _PREFIX + _MAX_META_BYTES])

    def after_group_2(tag: int, vr: str | None, length: int) -> bool:
        return tag >> 16 != 2

    found = read_dataset(meta, False, True, stop_when=after_group_2, specific_tags=[_TRANSFER_SYNTAX])
    syntax = _text(found, _TRANSFER_SYNTAX)
    if syntax not in (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.JPEGBaseline8Bit):
        raise UnsupportedImage(
            "The DICOM file's transfer syntax is not supported; expected uncompressed little endian or "
            "JPEG baseline."
        )
    return syntax, _PREFIX + meta.tell()


def _read_header(stream: _Stream, *, implicit: bool) -> tuple[Dataset, int | None]:
    """Read the wanted elements, and leave ``stream`` at the pixel data.

    Some software encodes elements differently from its transfer syntax. pydicom then follows the encoding of
    the first element, and so does this function.

    Returns:
        The elements, and the length of the pixel data in bytes, None if there is none.
    """
    found: list[tuple[str | None, int]] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag < _PIXEL_DATA:
            return False
        if tag == _PIXEL_DATA and vr in ("OB", "OW", None):
            found.append((vr, length))
        return True

    dataset = read_dataset(stream, implicit, True, stop_when=at_pixels, specific_tags=_WANTED)
    if not found:
        return dataset, None
    vr, length = found[0]
    stream.seek(8 if vr is None else 12, 1)  # read_dataset() rewinds to the element's tag
    return dataset, length


def _photometric(dataset: Dataset) -> str:
    """Return the photometric interpretation, after a check that the samples are supported."""
    found = _text(dataset, _PHOTOMETRIC)
    if found not in _SAMPLES_OF:
        raise UnsupportedImage(
            "The DICOM file's photometric interpretation is not supported; expected "
            f"{', '.join(_SAMPLES_OF)}."
        )
    bits = [_number(dataset, tag) for tag in (_ALLOCATED, _STORED)]
    if bits != [8, 8] or _number(dataset, _SIGNED, default=0) != 0:
        # Displaying wider grey samples needs a window, and no window is right for all images.
        raise UnsupportedImage("The DICOM file's samples are not supported; expected 8 bits, unsigned.")
    if _number(dataset, _SAMPLES) != _SAMPLES_OF[found]:
        raise CorruptImage(
            "The DICOM file is damaged: its samples per pixel do not match its photometric interpretation."
        )
    return found


def _jpeg(stream: _Stream, photometric: str, *, several: bool) -> bytes:
    """Return the first of the encapsulated frames as a JPEG file."""
    fragments = generate_fragments(stream)
    next(fragments, None)  # skip the offset table, which may be empty
    frame = bytearray()
    for fragment in fragments:
        frame += fragment
        if several and b"\xff\xd9" in fragment[-10:]:  # the end-of-image marker, possibly padded
            break
    if not frame.startswith(b"\xff\xd8\xff"):
        raise CorruptImage("The DICOM file is damaged: its frame is not a JPEG.")
    if photometric == "RGB":
        frame[2:2] = _ADOBE_RGB
    return bytes(frame)


def _value(dataset: Dataset, tag: int) -> bytes:
    """Return the raw bytes of an element, without conversion or warning by pydicom."""
    value = dataset.get_item(tag).value if tag in dataset else b""
    return value if isinstance(value, bytes) else b""


def _text(dataset: Dataset, tag: int) -> str:
    return _value(dataset, tag).decode("ascii").rstrip("\0 ").lstrip()


def _number(dataset: Dataset, tag: int, *, default: int | None = None) -> int:
    value = _value(dataset, tag)
    if not value and default is not None:
        return default
    return int(struct.unpack("<H", value)[0])
