"""ICC profiles, written from their published figures, and pictures in their colours.

Reference: ICC.1:2001-04 (version 2 of profiles). The primaries are given in XYZ of D50, as profiles
hold them.
"""

import struct
from itertools import product
from typing import NamedTuple

import numpy as np
from PIL import Image

_D50 = (0.9642, 1.0, 0.8249)
_SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]])


class Space(NamedTuple):
    """Colours by three primaries, the columns of ``primaries``, and a curve."""

    primaries: np.ndarray
    gamma: float  # 0 for the curve of sRGB


SPACES = {
    "sRGB": Space(_SRGB, 0),
    "Display P3": Space(
        np.array([[0.51512, 0.29198, 0.1571], [0.2412, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]), 0
    ),
    "Adobe RGB": Space(
        np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]),
        563 / 256,
    ),
    "ProPhoto RGB": Space(
        np.array([[0.79767, 0.13519, 0.03134], [0.28804, 0.71188, 0.00009], [0.0, 0.0, 0.82491]]), 1.8
    ),
}


def in_space(picture: Image.Image, name: str) -> Image.Image:
    """The RGB ``picture``, of sRGB, with the numbers that its colours have in another space."""
    space = SPACES[name]
    values = np.asarray(picture) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ (np.linalg.inv(space.primaries) @ _SRGB).T, 0, 1)
    if space.gamma:
        values = linear ** (1 / space.gamma)
    else:
        values = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return Image.fromarray((values * 255 + 0.5).astype(np.uint8))


def rgb_profile(name: str) -> bytes:
    """The profile of one of ``SPACES``."""
    space = SPACES[name]
    columns = zip(b"rgb", space.primaries.T, strict=True)
    tags = {bytes([letter]) + b"XYZ": _xyz(*column) for letter, column in columns}
    curve = _gamma(space.gamma) if space.gamma else _curve_of_srgb()
    return _profile(b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def grey_profile(gamma: float) -> bytes:
    """Grey of a gamma."""
    return _profile(b"GRAY", b"XYZ ", {b"kTRC": _gamma(gamma)})


def cmyk_profile() -> bytes:
    """Inks whose 16 overprints have made-up colours in Lab: full magenta is as light as full yellow."""
    table = b""
    for cyan, magenta, yellow, black in product((0, 1), repeat=4):
        light = (100 - 30 * cyan - 10 * magenta - 10 * yellow) * (1 - 0.9 * black)
        table += bytes([round(light * 2.55), 128 - 30 * cyan + 60 * magenta, 128 + 60 * yellow - 30 * cyan])
    ramp = bytes(range(256))
    identity = struct.pack(">9i", *(65536 * (i in (0, 4, 8)) for i in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + table + ramp * 3
    return _profile(b"CMYK", b"Lab ", {b"A2B0": lut}, kind=b"prtr")


def _profile(space: bytes, connection: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    text = b"made for a test\0"
    description = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": description, b"cprt": b"text" + bytes(4) + text, b"wtpt": _xyz(*_D50)} | tags
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s", start + len(body), 0x0210_0000, kind, space, connection, b"acsp")
    head = head.ljust(68, b"\0") + _xyz(*_D50)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def _gamma(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def _curve_of_srgb() -> bytes:
    values = np.linspace(0, 1, 1024)
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return b"curv" + bytes(4) + struct.pack(">I1024H", 1024, *(round(v * 65535) for v in linear))
