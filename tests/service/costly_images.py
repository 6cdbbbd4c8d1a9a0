"""Small files that cost a decoder much: made as an attacker would."""

import struct

from PIL import Image

from tests.synthetic import encoded


def tiff(entries: list[tuple[int, int, int, int]], before: bytes) -> bytes:
    """A TIFF of these tags (number, type, count, value or offset) after ``before``, from byte 8 on."""
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(before)) + before + table + b"\0" * 4


def strips(rows: int) -> bytes:
    """A grey TIFF of 1 x ``rows`` pixels with a strip for each row: two bytes a row."""
    offsets = struct.pack("<H", 8) * rows
    before = b"\x80" * 16 + offsets
    size = [(256, 4, 1, 1), (257, 4, 1, rows), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    return tiff([*size, (273, 3, rows, 24), (277, 3, 1, 1), (278, 3, 1, 1)], before + b"\0" * (rows % 2 * 2))


def rationals(count: int) -> bytes:
    """A grey TIFF of 16 x 16 pixels whose resolution consists of ``count`` fractions."""
    pixels, fractions = b"\x80" * 256, struct.pack("<II", 1_000_003, 7) * count
    size = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    rest = [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 16), (279, 4, 1, 256), (282, 5, count, 264)]
    return tiff([*size, *rest], pixels + fractions)


def segments(jpeg: bytes, count: int) -> bytes:
    """``jpeg`` with ``count`` empty APP5 segments."""
    return jpeg[:2] + b"\xff\xe5\x00\x02" * count + jpeg[2:]


def scans(width: int, height: int, extra: int) -> bytes:
    """A progressive grey JPEG that repeats its last scan, which refines, ``extra`` times."""
    data = encoded(Image.new("L", (width, height), 128), "JPEG", progressive=True, quality=75)
    start = data.rindex(b"\xff\xda")
    table = data.rindex(b"\xff\xc4", 0, start)
    last = data[table:-2] if b"\xff\xda" not in data[table:start] else data[start:-2]
    return data[:-2] + last * extra + data[-2:]
