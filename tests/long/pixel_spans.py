"""Where in a file the pixels are: entropy-coded data, IDAT, strips and tiles, VP8."""

import io
from itertools import pairwise

from PIL import Image, TiffImagePlugin

Span = tuple[int, int]


def pixel_spans(data: bytes) -> list[Span]:
    """Start and end of each stretch of pixels in an intact file, none empty; none at all if unknown."""
    if data.startswith(b"\xff\xd8"):
        spans = _jpeg(data)
    elif data.startswith(b"\x89PNG"):
        spans = _chunks(data, 8, "big", (b"IDAT", b"fdAT"))
    elif data.startswith(b"RIFF"):
        spans = _chunks(data, 12, "little", (b"VP8 ", b"VP8L", b"ANMF"))
    elif data.startswith((b"II", b"MM")):
        spans = _tiff(data)
    elif data.startswith(b"BM"):
        spans = [(int.from_bytes(data[10:14], "little"), len(data))]
    else:
        spans = []
    return [(start, min(end, len(data))) for start, end in spans if start < min(end, len(data))]


def _jpeg(data: bytes) -> list[Span]:
    spans, at = [], 2
    while 0 < at < len(data) - 4 and data[at] == 0xFF and data[at + 1] != 0xD9:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDA:
            start = end
            while end < len(data) - 1 and (data[end] != 0xFF or data[end + 1] in (0, *range(0xD0, 0xD8))):
                end += 1
            spans.append((start, end))
        at = end
    return spans


def _chunks(data: bytes, at: int, order: str, names: tuple[bytes, ...]) -> list[Span]:
    spans, little = [], order == "little"  # RIFF: name, size, content; PNG: size, name, content, checksum
    while at + 8 <= len(data):
        first, second = data[at : at + 4], data[at + 4 : at + 8]
        name = first if little else second
        size = int.from_bytes(second, "little") if little else int.from_bytes(first, "big")
        if name in names:
            skip = min(10, size // 2) if little else 0  # the sizes of WebP
            spans.append((at + 8 + skip, at + 8 + size))
        at += 8 + size + (size % 2 if little else 4)
    return spans


def _tiff(data: bytes) -> list[Span]:
    with Image.open(io.BytesIO(data)) as image:
        assert isinstance(image, TiffImagePlugin.TiffImageFile)
        tags = image.tag_v2
        offsets = tags.get(273) or tags.get(324) or ()
        sizes = tags.get(279) or tags.get(325) or [b - a for a, b in pairwise((*offsets, len(data)))]
    return [(start, start + size) for start, size in zip(offsets, sizes, strict=False)]
