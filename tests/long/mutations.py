"""Files to damaged files: blind changes, and changes that know where a format keeps its sizes.

Everything is drawn from the given source of randomness, so that a seed names an input.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

from tests.long.drawn_files import png_chunk
from tests.long.pixel_spans import pixel_spans

_TELLING = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Numbers at which parsers break."""

_TAGS = (256, 257, 258, 259, 273, 277, 322, 330)
"""Of a TIFF: sizes, bits, compression, places, samples, tiles, further pages."""

_FIELDS = ((2, 4), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4))
"""Of a BMP's headers: offset and bytes."""

_LARGEST = 20_000_000
"""Bytes that repeating a part of a file may add."""

Mutation = Callable[[Random, bytes], bytes]


def mutate(rng: Random, files: Sequence[bytes]) -> bytes:
    """One of ``files``, damaged by one to four mutations; now and then spliced with another."""
    data = rng.choice(files)
    if rng.random() < 0.08:
        other = rng.choice(files)
        data = data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        own = _structural(data)
        data = (own if own and rng.random() < 0.6 else rng.choice(_BLIND))(rng, data)
    return data


def damage_pixels(rng: Random, data: bytes) -> bytes:
    """Damage inside of the compressed or stored pixels only: flipped bits, or a hole."""
    spans = pixel_spans(data)
    if not spans:
        return _flip(rng, data)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 4, 16))):
        start, end = rng.choices(spans, weights=[end - start for start, end in spans])[0]
        changed[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
    if rng.random() < 0.2:
        at = rng.randrange(start, end)
        changed[at : min(end, at + 512)] = bytes(min(end, at + 512) - at)
    return bytes(changed)


def _structural(data: bytes) -> Mutation | None:
    """The mutation that knows the format of ``data``."""
    if data[128:132] == b"DICM":
        return _dicom
    for magic, mutation in _STRUCTURAL.items():
        if data.startswith(magic):
            return mutation
    return None


def _number(rng: Random, size: int) -> int:
    """A telling or small or arbitrary number of ``size`` bytes."""
    top = 256**size - 1
    return rng.choice((rng.choice(_TELLING) & top, rng.randrange(300) & top, rng.randrange(top + 1)))


def _place(rng: Random, data: bytes) -> int:
    """Headers decide most: half of the changes hit the first bytes."""
    return rng.randrange(min(len(data), rng.choice((64, len(data)))) or 1) if data else 0


def _put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _flip(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8) if data else 0):
        changed[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(rng: Random, data: bytes) -> bytes:
    size = rng.choice((1, 2, 4))
    number = _number(rng, size).to_bytes(size, "little")
    return _put(data, _place(rng, data), rng.choice((number, number[::-1])))


def _truncate(rng: Random, data: bytes) -> bytes:
    return data[: rng.randint(0, len(data))]


def _remove(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 4, rng.randint(1, 1000))) :]


def _repeat(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    piece = data[at : at + rng.randint(1, 400)]
    return data[:at] + piece * rng.choice((2, 3, 50)) + data[at:]


def _insert(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.randbytes(rng.randint(1, 60)) + data[at:]


def _noise(rng: Random, data: bytes) -> bytes:
    """Random bytes over the second half: where the compressed pixels are."""
    at = rng.randint(len(data) // 2, len(data))
    return data[:at] + rng.randbytes(len(data) - at)


_BLIND: tuple[Mutation, ...] = (_flip, _overwrite) * 2 + (_truncate, _remove, _repeat, _insert, _noise)


def _edit_list(rng: Random, parts: list[bytes]) -> list[bytes]:
    """Drop, repeat or exchange parts of a file."""
    if not parts:
        return parts
    a, b = rng.randrange(len(parts)), rng.randrange(len(parts))
    how = rng.randrange(3)
    if how == 0:
        del parts[a]
    elif how == 1:
        # Mutations follow each other: bodies over what a service takes are of no interest.
        parts[a:a] = [parts[b]] * min(rng.choice((1, 2, 200)), 1 + _LARGEST // (1 + len(parts[b])))
    else:
        parts[a], parts[b] = parts[b], parts[a]
    return parts


def _png(rng: Random, data: bytes) -> bytes:
    chunks: list[tuple[bytes, bytes]] = []
    at = 8
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    if not chunks:
        return _flip(rng, data)
    index = rng.randrange(len(chunks))
    name, content = chunks[index]
    how = rng.randrange(6)
    if how == 0:  # sizes and kinds of pixels, with a right checksum
        content = _put(chunks[0][1], 4 * rng.randrange(2), struct.pack(">I", _number(rng, 4)))
        chunks[0] = (chunks[0][0], content)
    elif how == 1:
        chunks[0] = (chunks[0][0], _put(chunks[0][1], rng.randint(8, 12), bytes([_number(rng, 1)])))
    elif how == 2:  # a wrong length
        broken = struct.pack(">I", _number(rng, 4)) + name + content + bytes(4)
        return data[:8] + b"".join(png_chunk(*chunk) for chunk in chunks[:index]) + broken
    elif how == 3:  # other content, with a right checksum
        chunks[index] = (name, _overwrite(rng, _flip(rng, content)))
    elif how == 4 and name in (b"IDAT", b"zTXt", b"iCCP"):  # right compression around wrong data
        chunks[index] = (name, zlib.compress(rng.randbytes(rng.randint(0, 3000)) * rng.choice((1, 300))))
    else:
        return data[:8] + b"".join(_edit_list(rng, [png_chunk(*chunk) for chunk in chunks]))
    return data[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)


def _jpeg(rng: Random, data: bytes) -> bytes:
    segments: list[bytes] = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        size = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        segments.append(data[at : at + size])
        at += size
    if not segments:
        return _flip(rng, data)
    rest = data[at:]
    index = rng.randrange(len(segments))
    frames = [i for i, segment in enumerate(segments) if segment[1] in (0xC0, 0xC1, 0xC2)]
    how = rng.randrange(4)
    if how == 0 and frames:  # height and width
        sizes = struct.pack(">HH", _number(rng, 2), _number(rng, 2))
        segments[frames[0]] = _put(segments[frames[0]], 5, sizes)
    elif how == 1:  # length
        segments[index] = _put(segments[index], 2, struct.pack(">H", _number(rng, 2)))
    elif how == 2:  # tables, sampling, EXIF
        segments[index] = segments[index][:4] + _flip(rng, segments[index][4:])
    else:
        segments = _edit_list(rng, segments)
    return data[:2] + b"".join(segments) + rest


def _tiff(rng: Random, data: bytes) -> bytes:
    order = "<" if data[:2] == b"II" else ">"
    big = len(data) > 4 and 43 in data[2:4]
    entry, count_size, value = (20, 8, 12) if big else (12, 2, 8)
    try:
        directory: int = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
        count: int = struct.unpack_from(order + ("Q" if big else "H"), data, directory)[0]
    except (struct.error, OverflowError):  # the directory is nowhere
        return _flip(rng, data)
    at = directory + count_size + entry * rng.randrange(max(1, min(count, 100)))
    number = struct.pack(order + "I", _number(rng, 4))
    how = rng.randrange(5)
    if how == 0:
        return _put(data, at + value, number)
    if how == 1:
        return _put(data, at + 4, number)  # count
    if how == 2:
        return _put(data, at, struct.pack(order + "HH", rng.choice(_TAGS), 4))
    if how == 3:
        return _put(data, at + 2, struct.pack(order + "H", rng.randrange(19)))  # type
    link = rng.choice((directory, 8, _number(rng, 4)))  # pages without end
    return _put(data, directory + count_size + entry * min(count, 100), struct.pack(order + "I", link))


def _webp(rng: Random, data: bytes) -> bytes:
    chunks: list[bytes] = []
    at = 12
    while at + 8 <= len(data):
        size = 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        chunks.append(data[at : at + size + size % 2])
        at += size + size % 2
    if not chunks:
        return _flip(rng, data)
    index = rng.randrange(len(chunks))
    how = rng.randrange(4)
    if how == 0:  # sizes stand in the first bytes of VP8, VP8L, VP8X and ANMF
        chunks[index] = _put(chunks[index], 8 + rng.randrange(16), struct.pack("<I", _number(rng, 4))[:3])
    elif how == 1:
        chunks[index] = _put(chunks[index], 4, struct.pack("<I", _number(rng, 4)))
    elif how == 2:
        chunks[index] = chunks[index][:8] + _flip(rng, chunks[index][8:])
    else:
        chunks = _edit_list(rng, chunks)
    body = b"WEBP" + b"".join(chunks)
    size = len(body) if rng.random() < 0.8 else _number(rng, 4)
    return b"RIFF" + struct.pack("<I", size) + body


def _bmp(rng: Random, data: bytes) -> bytes:
    at, size = rng.choice(_FIELDS)
    value = rng.choice((_number(rng, size), rng.randrange(40), 256**size - rng.randint(1, 300)))
    return _put(data, at, value.to_bytes(size, "little"))


def _dicom(rng: Random, data: bytes) -> bytes:
    elements: list[bytes] = []
    at = 132
    while at + 12 <= len(data) and len(elements) < 100:
        if data[at + 4 : at + 6] in (b"OB", b"OW", b"SQ", b"UN"):
            size = 12 + int.from_bytes(data[at + 8 : at + 12], "little")
        else:
            size = 8 + int.from_bytes(data[at + 6 : at + 8], "little")
        elements.append(data[at : at + size])
        at += size
    if not elements:
        return _flip(rng, data)
    index = rng.randrange(len(elements))
    how = rng.randrange(5)
    if how == 0:  # length
        elements[index] = _put(elements[index], 6, struct.pack("<I", _number(rng, 4))[: rng.choice((2, 4))])
    elif how == 1:  # value, most often a size or a kind of pixels
        elements[index] = elements[index][:8] + _flip(rng, elements[index][8:])
    elif how == 2:  # tag or type
        elements[index] = _put(elements[index], rng.choice((0, 2, 4)), rng.randbytes(2))
    elif how == 3:  # sequences in sequences
        head = struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFF_FFFF)
        elements.insert(
            index, (head + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFF_FFFF)) * rng.choice((1, 20, 2000))
        )
    else:
        elements = _edit_list(rng, elements)
    return data[:132] + b"".join(elements) + data[at:]


_STRUCTURAL: dict[bytes, Mutation] = {
    b"\x89PNG": _png,
    b"\xff\xd8": _jpeg,
    b"II": _tiff,
    b"MM": _tiff,
    b"RIFF": _webp,
    b"BM": _bmp,
}
