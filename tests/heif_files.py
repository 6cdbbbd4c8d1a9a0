"""HEIC files that no encoder writes, of a drawn tile: as an attacker would make them."""

import struct

from PIL import Image

from tests.synthetic import encoded


def tiled_heif(tile: Image.Image, columns: int, rows: int, width: int, height: int) -> bytes:
    """A grid of ``columns`` x ``rows`` times the one ``tile``, announced as ``width`` x ``height``."""
    encoded_tile = encoded(tile, "HEIF", quality=60)
    pixels = _found(encoded_tile, b"mdat")[8:]
    size = struct.pack(">II", width, height)
    grid = struct.pack(">BBBB", 0, 1, rows - 1, columns - 1) + size
    tiles = columns * rows
    properties = _box(
        b"ipco",
        _found(encoded_tile, b"hvcC"),
        _full_box(b"ispe", 0, struct.pack(">II", *tile.size)),
        _full_box(b"ispe", 0, size),
    )
    # The grid has the third property; the tile has the first, which is essential, and the second.
    owners = struct.pack(">IHBBHBBB", 2, 1, 1, 3, 2, 2, 0x81, 2)
    start = _box(b"ftyp", b"heic", bytes(4), b"mif1heic")

    def meta(offset: int) -> bytes:
        places = struct.pack(">BBH", 0x44, 0, 2)
        places += struct.pack(">HHHHII", 1, 1, 0, 1, 0, len(grid))  # in the box idat
        places += struct.pack(">HHHHII", 2, 0, 0, 1, offset, len(pixels))
        return _full_box(
            b"meta",
            0,
            _full_box(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            _full_box(b"pitm", 0, struct.pack(">H", 1)),
            _full_box(b"iinf", 0, struct.pack(">H", 2), _item(1, b"grid"), _item(2, b"hvc1")),
            _full_box(b"iref", 0, _box(b"dimg", struct.pack(f">HH{tiles}H", 1, tiles, *[2] * tiles))),
            _box(b"iprp", properties, _full_box(b"ipma", 0, owners)),
            _full_box(b"iloc", 1, places),
            _box(b"idat", grid),
        )

    return start + meta(len(start) + len(meta(0)) + 8) + _box(b"mdat", pixels)


def with_size(heif: bytes, width: int, height: int) -> bytes:
    """``heif`` of one image with another size in its header."""
    data = bytearray(heif)
    struct.pack_into(">II", data, data.index(b"ispe") + 8, width, height)  # after version and flags
    return bytes(data)


def _item(number: int, kind: bytes) -> bytes:
    return _full_box(b"infe", 2, struct.pack(">HH4s", number, 0, kind), b"\0")


def _box(kind: bytes, *parts: bytes) -> bytes:
    """A box of ISO/IEC 14496-12."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full_box(kind: bytes, version: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24), *parts)


def _found(data: bytes, kind: bytes) -> bytes:
    start = data.index(kind) - 4
    return data[start : start + int.from_bytes(data[start : start + 4], "big")]
