"""The first frame of a DICOM photograph; needs the optional extra ``dicom`` (pydicom).

Read are the tags that say how the pixels lie, and no other: patients, dates and institutions are
skipped unread. Photographs only: of 8 bits a sample, uncompressed or as JPEG, the two ways in which
cameras and dermatoscopes store them. What else DICOM allows (wider samples, palettes, deflate, JPEG
2000 …) is refused in words. Nothing is decoded here: a JPEG goes through the one decoder of all JPEGs.

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

# pydicom quotes odd values, which may be of a patient, in its log and in warnings.
logging.getLogger("pydicom").disabled = True
warnings.filterwarnings("ignore", category=UserWarning, module="pydicom")

PHOTOGRAPHS = {
    uid.SecondaryCaptureImageStorage: "Secondary Capture",
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage: "Multi-frame Grayscale Byte Secondary Capture",
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage: "Multi-frame True Color Secondary Capture",
    uid.VLPhotographicImageStorage: "VL Photographic Image",
    uid.DermoscopicPhotographyImageStorage: "Dermoscopic Photography Image",
}
"""SOP classes that may hold a picture of skin. Endoscopes, microscopes and slides do not show any."""

_PREFIX = 132  # bytes before the first element: the preamble and "DICM"
_MAX_META_BYTES = 65_536
_MAX_READS = 10_000
"""Headers and values that are read before the pixels are reached, nested ones and fragments included.

Photographs have a few hundred; a body full of nested empty items would keep pydicom busy for minutes.
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

# Tells a JPEG decoder that the three components are RGB (Adobe's APP14, transform 0). Without one it
# takes them for YCbCr. A mark of the stream's own comes later, and wins.
_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"


class Frame(NamedTuple):
    """The first frame, not yet decoded.

    Attributes:
        columns, rows: size in pixels, as the file states it.
        photometric: a key of ``_SAMPLES_OF``.
        planar: whether the colours lie one after the other.
        jpeg: the frame as a JPEG file; None where it is uncompressed.
        raw: the frame's samples; empty where it is a JPEG.
        several_frames: whether there are more.
        burned_in: whether the file says that text is burnt into its pixels.
        profile: the ICC profile of its colours, None where there is none.
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
        """The uncompressed samples: Pillow's mode, and uint8 ``[rows, columns]`` or with 3 channels."""
        values = np.frombuffer(self.raw, np.uint8)
        if self.photometric == "YBR_FULL_422":  # two luma samples, then the two of colour that they share
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
    """Find the first frame of the DICOM file ``data``; decodes nothing.

    Raises:
        UnsupportedImage: no photograph, or pixels stored in a way that is not read.
        CorruptImage: truncated or damaged.
    """
    try:
        return _read_frame(data)
    except MemoryError:
        raise  # says nothing of the file
    except (UnsupportedImage, CorruptImage):
        raise
    except Exception:
        # pydicom raises errors of any kind on damaged files, RecursionError among them. Their texts hold
        # values of the file, hence `from None`.
        raise CorruptImage("The DICOM file is truncated or damaged.") from None


def _read_frame(data: bytes) -> Frame:
    syntax, start = _transfer_syntax(data)
    stream = _Stream(data)
    stream.seek(start)
    dataset, length = _read_header(stream, implicit=syntax == uid.ImplicitVRLittleEndian)
    if _text(dataset, _SOP_CLASS) not in PHOTOGRAPHS:
        raise UnsupportedImage(
            f"The DICOM file holds no photograph: its SOP class is none of {', '.join(PHOTOGRAPHS.values())}."
        )
    if length is None:
        raise CorruptImage("The DICOM file is truncated or damaged: it has no pixel data.")
    photometric = _photometric(dataset)
    columns, rows = _number(dataset, _COLUMNS), _number(dataset, _ROWS)
    frames = int(_text(dataset, _FRAMES) or 1)
    if min(columns, rows, frames) < 1:
        raise CorruptImage("The DICOM file is damaged: its size makes no picture.")
    jpeg, raw = None, memoryview(b"")
    if syntax == uid.JPEGBaseline8Bit:
        if length != _UNDEFINED:
            raise CorruptImage("The DICOM file is damaged: its JPEG is not encapsulated.")
        jpeg = _jpeg(stream, photometric, several=frames > 1)
    else:
        if photometric == "YBR_FULL_422" and columns % 2:  # of a JPEG, any number will do
            raise CorruptImage("The DICOM file is damaged: its pixels come in pairs, its columns do not.")
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
    """Bytes in memory that may be asked for only so often."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > _MAX_READS:
            raise CorruptImage("The DICOM file has more elements than a photograph's.")
        return super().read(size)


def _transfer_syntax(data: bytes) -> tuple[str, int]:
    """How the rest is encoded, and where it starts: after group 2, whose stated length some files lack.

    pydicom would inflate a deflated file whole, to whatever it swells to: so this is read first.
    """
    meta = _Stream(data[_PREFIX : _PREFIX + _MAX_META_BYTES])

    def behind_group_2(tag: int, vr: str | None, length: int) -> bool:
        return tag >> 16 != 2

    found = read_dataset(meta, False, True, stop_when=behind_group_2, specific_tags=[_TRANSFER_SYNTAX])
    syntax = _text(found, _TRANSFER_SYNTAX)
    if syntax not in (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.JPEGBaseline8Bit):
        raise UnsupportedImage(
            "The DICOM file's transfer syntax is not read; expected uncompressed little endian or "
            "JPEG baseline."
        )
    return syntax, _PREFIX + meta.tell()


def _read_header(stream: _Stream, *, implicit: bool) -> tuple[Dataset, int | None]:
    """The wanted elements, and the length of the pixel data, if any, at which ``stream`` then stands.

    Some software encodes elements otherwise than its transfer syntax says. pydicom then goes by the first
    element, and so does this.
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
    stream.seek(8 if vr is None else 12, 1)  # it was rewound to the element's tag
    return dataset, length


def _photometric(dataset: Dataset) -> str:
    """What the samples mean, after a check that they are such as are read."""
    found = _text(dataset, _PHOTOMETRIC)
    if found not in _SAMPLES_OF:
        raise UnsupportedImage(
            f"The DICOM file's photometric interpretation is not read; expected {', '.join(_SAMPLES_OF)}."
        )
    bits = [_number(dataset, tag) for tag in (_ALLOCATED, _STORED)]
    if bits != [8, 8] or _number(dataset, _SIGNED, default=0) != 0:
        # A wider grey picture needs a window, and which one is a matter of taste.
        raise UnsupportedImage("The DICOM file's samples are not read; expected 8 bits, unsigned.")
    if _number(dataset, _SAMPLES) != _SAMPLES_OF[found]:
        raise CorruptImage("The DICOM file is damaged: its number of samples fits no picture of its kind.")
    return found


def _jpeg(stream: _Stream, photometric: str, *, several: bool) -> bytes:
    """The first of the encapsulated frames, as a JPEG file."""
    fragments = generate_fragments(stream)
    next(fragments, None)  # the table of offsets, which need not be filled in
    frame = bytearray()
    for fragment in fragments:
        frame += fragment
        if several and b"\xff\xd9" in fragment[-10:]:  # end of image, and padding
            break
    if not frame.startswith(b"\xff\xd8\xff"):
        raise CorruptImage("The DICOM file is damaged: its frame is no JPEG.")
    if photometric == "RGB":
        frame[2:2] = _ADOBE_RGB
    return bytes(frame)


def _value(dataset: Dataset, tag: int) -> bytes:
    """The bytes of an element as they are: pydicom converts, and complains of, nothing."""
    value = dataset.get_item(tag).value if tag in dataset else b""
    return value if isinstance(value, bytes) else b""


def _text(dataset: Dataset, tag: int) -> str:
    return _value(dataset, tag).decode("ascii").rstrip("\0 ").lstrip()


def _number(dataset: Dataset, tag: int, *, default: int | None = None) -> int:
    value = _value(dataset, tag)
    if not value and default is not None:
        return default
    return int(struct.unpack("<H", value)[0])
