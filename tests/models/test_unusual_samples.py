"""Samples other than 8-bit RGB or grey, and files that only claim to be large."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.preprocess import decode
from tests.long.drawn_files import png
from tests.synthetic import draw_lesion, encoded

ROOT = Path(__file__).parents[2]
GREY = draw_lesion(np.random.default_rng(6), code="nv", width=60, height=46).convert("L")
PLAIN = decode(encoded(GREY, "PNG")).pixels.astype(int)


def tiff(pixels: bytes, bits: tuple[int, ...], more: dict[int, tuple[int, int]], order: str = "<") -> bytes:
    """A grey TIFF of the size of ``GREY``; ``more`` tags by number, with type and value."""
    sizes = struct.pack(f"{order}{len(bits)}H", *bits)
    short, long = 3, 4
    tags: dict[int, tuple[int, int, int]] = {
        256: (long, 1, GREY.width),
        257: (long, 1, GREY.height),
        258: (short, len(bits), int.from_bytes(sizes.ljust(4, b"\0"), "little" if order == "<" else "big")),
        259: (short, 1, 1),
        262: (short, 1, 1),
        273: (long, 1, 8),
        277: (short, 1, len(bits)),
        278: (long, 1, GREY.height),
        279: (long, 1, len(pixels)),
    }
    tags |= {tag: (kind, 1, value) for tag, (kind, value) in more.items()}
    entries = b""
    for tag, (kind, count, value) in sorted(tags.items()):
        whole = kind == long or tag == 258
        entries += struct.pack(order + "HHI", tag, kind, count)
        entries += struct.pack(order + ("I" if whole else "Hxx"), value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(pixels))
    return head + pixels + struct.pack(order + "H", len(tags)) + entries + bytes(4)


def wide(top: int, order: str = "<") -> bytes:
    """``GREY`` in 16 bits a sample, of which ``top`` is white."""
    values = np.asarray(GREY).astype(np.uint32) * top // 255
    return values.astype(order + "u2").tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
def test_premultiplied_grey_is_laid_on_white(order: str) -> None:
    grey = np.asarray(GREY)
    alpha = np.full_like(grey, 128)
    multiplied = (grey.astype(int) * 128 // 255).astype(np.uint8)
    found = decode(tiff(np.stack([multiplied, alpha], -1).tobytes(), (8, 8), {338: (3, 1)}, order))
    assert found.format == "TIFF"
    expected = PLAIN * 128 / 255 + 255 * (1 - 128 / 255)
    assert np.abs(found.pixels - expected).mean() < 2


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("order", ["<", ">"])
def test_samples_that_use_fewer_than_16_bits_keep_their_brightness(bits: int, order: str) -> None:
    """MaxSampleValue, tag 281, says so."""
    top = (1 << bits) - 1
    found = decode(tiff(wide(top, order), (16,), {281: (3, top)}, order))
    assert np.abs(found.pixels - PLAIN).mean() < 2


def test_packed_12_bit_samples_keep_their_brightness() -> None:
    values = np.asarray(GREY).astype(np.uint32) * 4095 // 255
    first, second = values.reshape(-1, 2).T
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8)
    found = decode(tiff(packed.tobytes(), (12,), {}))
    assert np.abs(found.pixels - PLAIN).mean() < 2


@pytest.mark.parametrize("stated", [None, 65535, 3000, 255, 0])
def test_a_dark_picture_in_16_bits_stays_dark(stated: int | None) -> None:
    """MaxSampleValue may also be the brightest sample, which must not change how the image looks."""
    found = decode(tiff(wide(3000), (16,), {} if stated is None else {281: (3, stated)}))
    assert np.abs(found.pixels - PLAIN * 3000 / 65535).mean() < 2


@pytest.mark.parametrize("kind", [1, 2, 4, 5, 7, 12])
def test_an_invalid_or_too_small_maximum_is_ignored(kind: int) -> None:
    found = decode(tiff(wide(65535), (16,), {281: (kind, 4095)}))
    assert np.abs(found.pixels - PLAIN).mean() < 2


def test_a_tiny_file_that_claims_to_be_huge_is_refused_without_a_warning() -> None:
    """Python would keep the text of each warning, which contains the number of pixels, forever."""
    program = """
import sys, warnings
from models.errors import ImageTooLarge
from models.preprocess import decode
for data in [bytes.fromhex(line) for line in sys.stdin]:
    try:
        decode(data)
    except ImageTooLarge:
        continue
    sys.exit("accepted")
import PIL.Image
print([key for key in getattr(PIL.Image, "__warningregistry__", {}) if key != "version"])
"""
    files = [png(10_000 + i, 10_000, 8, zlib.compress(b"")) for i in range(5)]
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="\n".join(file.hex() for file in files),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "[]"


def test_lab_is_shown_as_pillow_shows_it() -> None:
    lab = Image.new("LAB", (50, 50), (150, 150, 140))
    found = decode(encoded(lab, "TIFF")).pixels
    assert np.abs(found.astype(int) - lab.convert("RGB").getpixel((0, 0))).max() <= 2
