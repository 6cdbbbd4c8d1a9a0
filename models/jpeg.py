"""JPEG files: decoded at a reduced scale, and refused where the compressed data does not add up.

libjpeg decodes damaged data as well as it can, and Pillow does not pass its warnings on. But libjpeg
takes data piece by piece and asks for more when it runs out. Given all but the end of the compressed
data, it must ask for the end; given the end, it must not ask for more. This costs 1 % of decoding, and agrees
with libjpeg's own warnings (tests/models/test_damaged_jpeg.py; docs/clinic-api.md has the figures).
"""

import io
import re

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from models.errors import CorruptImage

_RESERVE = 1.6
"""A JPEG may be decoded at a reduced scale as long as it keeps this many times the target size.

The result then differs from a full decode by 0.4 of 255 on average, as much as two ways of rounding do
(with a reserve of 2 by 0.3), and a photo of 12 megapixels is decoded at an eighth.
"""

_START_OF_SCAN = b"\xda"
_SCAN_HEADER = 14  # bytes at most
_END_OF_IMAGE = re.compile(rb"\xff\xd9")  # three times as fast as bytes.find()

_LAST = 8
"""Bytes at the end of the data that the last block, or a few, cannot do without: fewer too many are taken
for padding."""

_PADDING = b"\xff\0" * 8
"""More of the ones that the last byte is padded with: libjpeg reads up to 8 bytes ahead. No code is all
ones, so this completes no block."""


def load_jpeg(image: Image.Image, data: bytes, *, height: int, width: int, turned: bool) -> None:
    """Decode an opened JPEG, scaled down by a power of two where that leaves a reserve over the target.

    Args:
        image: just opened: nothing but its header is read.
        data: the file.
        height, width: size of the picture that is wanted of it.
        turned: whether rows and columns are exchanged afterwards.

    Raises:
        CorruptImage: the compressed data ends before the picture does, or goes on after it. Data in
            several scans, as in progressive JPEGs, is not looked at.
        Exception: whatever Pillow raises on a truncated file.
    """
    _reduce(image, *((width, height) if turned else (height, width)))
    end = _end_of_only_scan(image, data)
    if end is None:
        image.load()
        return
    pieces = _Pieces(data, end)
    image.fp = pieces  # type: ignore[attr-defined]  # as Image.open() does
    image.load()
    if pieces.given != 2:
        how = "goes on after the picture" if pieces.given < 2 else "ends before the picture"
        raise CorruptImage(f"The JPEG image is damaged: its compressed data {how}. Send the original again.")


def _reduce(image: Image.Image, height: int, width: int) -> None:
    """Let the codec scale down while it decodes."""
    # draft() wants both sides at least as large as asked; the crop makes one side the tight one.
    scale = min(image.width / width, image.height / height) / _RESERVE
    if scale >= 2:
        image.draft(image.mode, (int(image.width / scale), int(image.height / scale)))


def _end_of_only_scan(image: Image.Image, data: bytes) -> int | None:
    """Where the compressed data ends; None where it is in several scans, or its end is missing."""
    if not isinstance(image, JpegImageFile) or "progressive" in image.info:
        return None
    start = 2
    while data[start : start + 1] == b"\xff" and data[start + 1 : start + 2] != _START_OF_SCAN:
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    if data[start + 4 : start + 5] != bytes([image.layers]):  # as many components as there are
        return None
    end = _END_OF_IMAGE.search(data, start)
    return end.start() if end and end.start() - start > _SCAN_HEADER + _LAST else None


class _Pieces(io.BytesIO):
    """A file in three pieces: all but the end of its compressed data, this end, and the rest.

    Attributes:
        given: how many were asked for.
    """

    def __init__(self, data: bytes, end: int) -> None:
        super().__init__(data)
        self._end = end
        self.given = 1

    def read(self, size: int | None = -1, /) -> bytes:
        at = self.tell()
        if at < self._end - _LAST:
            most = self._end - _LAST - at
            return super().read(most if size is None or size < 0 else min(size, most))
        self.given += 1
        if at < self._end:
            return super().read(self._end - at) + _PADDING
        return super().read(size)
