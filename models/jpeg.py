"""Decodes JPEG files at a reduced scale, and detects damaged compressed data.

libjpeg decodes damaged data as far as it can and only warns; Pillow drops the warnings. This module
detects the damage by how much data libjpeg reads. It first gives libjpeg everything but the last bytes of
the compressed data: libjpeg must then ask for more. It then gives these last bytes: libjpeg must not ask
again. The check adds 1 % to the decoding time and agrees with libjpeg's own warnings
(tests/models/test_damaged_jpeg.py; docs/clinic-api.md has the figures).
"""

import io
import re

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from models.errors import CorruptImage

_RESERVE = 1.6
"""A JPEG is decoded at a reduced scale only if the result keeps at least this many times the target size.

The pixels then differ from those of a full decode by 0.4 of 255 on average, which is the size of a rounding
error (0.3 with a reserve of 2). A photo of 12 megapixels is decoded at one eighth.
"""

_START_OF_SCAN = b"\xda"
_ARITHMETIC = b"\xc9"  # the frame header of a sequential JPEG with arithmetic coding
_SCAN_HEADER = 14  # bytes at most
_END_OF_IMAGE = re.compile(rb"\xff\xd9")  # three times as fast as bytes.find()

_TAIL_BYTES = 8
"""Size of the withheld end of the data. The last blocks need it; up to as many surplus bytes go unnoticed."""

_PADDING = b"\xff\0" * 8
"""Appended to the data, because libjpeg reads up to 8 bytes ahead. No Huffman code consists of ones only,
so the padding cannot complete a block."""


def load_jpeg(image: Image.Image, data: bytes, *, height: int, width: int, transposed: bool) -> None:
    """Decode an opened JPEG in place, scaled down by 2, 4 or 8 if it stays large enough for the target.

    Args:
        image: the image as ``Image.open`` returns it, not yet loaded.
        data: the whole file.
        height, width: target size in pixels.
        transposed: whether the caller exchanges rows and columns afterwards.

    Raises:
        CorruptImage: the compressed data ends before the picture does, or goes on after it. Files with
            several scans, such as progressive JPEGs, and with arithmetic coding are not checked.
        Exception: any exception that Pillow raises on a truncated file.
    """
    _reduce(image, *((width, height) if transposed else (height, width)))
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
    """Ask the codec to scale down while it decodes."""
    # draft() keeps both sides at least as large as requested. The later crop uses up one side in full, so
    # this side decides.
    scale = min(image.width / width, image.height / height) / _RESERVE
    if scale >= 2:
        image.draft(image.mode, (int(image.width / scale), int(image.height / scale)))


def _end_of_only_scan(image: Image.Image, data: bytes) -> int | None:
    """Return the offset at which the compressed data ends.

    Returns:
        None for several scans, for a missing end, and for arithmetic coding: libjpeg decodes it only if all
        data is there at once.
    """
    if not isinstance(image, JpegImageFile) or "progressive" in image.info:
        return None
    start = 2
    while data[start : start + 1] == b"\xff" and data[start + 1 : start + 2] != _START_OF_SCAN:
        if data[start + 1 : start + 2] == _ARITHMETIC:
            return None
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    if data[start + 4 : start + 5] != bytes([image.layers]):  # this scan lacks some components
        return None
    end = _END_OF_IMAGE.search(data, start)
    return end.start() if end and end.start() - start > _SCAN_HEADER + _TAIL_BYTES else None


class _Pieces(io.BytesIO):
    """A file that is read in three pieces: up to the tail of the compressed data, the tail, and the rest.

    Attributes:
        given: number of pieces read so far, at least 1.
    """

    def __init__(self, data: bytes, end: int) -> None:
        super().__init__(data)
        self._end = end
        self.given = 1

    def read(self, size: int | None = -1, /) -> bytes:
        at = self.tell()
        if at < self._end - _TAIL_BYTES:
            most = self._end - _TAIL_BYTES - at
            return super().read(most if size is None or size < 0 else min(size, most))
        self.given += 1
        if at < self._end:
            return super().read(self._end - at) + _PADDING
        return super().read(size)
