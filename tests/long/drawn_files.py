"""Drawn lesions in every way that the accepted formats can hold them."""

import struct
import zlib
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image, features

from tests.icc_profiles import cmyk_profile, in_space, rgb_profile
from tests.synthetic import draw_lesion, encoded

MEDIA_TYPES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "tiff": "image/tiff",
    "bmp": "image/bmp",
    "dicom": "application/dicom",
    "heif": "image/heic",
}
"""By the first word of a file's name in ``drawn_files``."""


def drawn_files(seed: int, width: int = 120, height: int = 90) -> dict[str, bytes]:
    """A lesion in each variant of each format, by a name such as ``png-palette``."""
    rng = np.random.default_rng(seed)
    rgb = draw_lesion(rng, code="mel", width=width, height=height)
    other = draw_lesion(rng, code="nv", width=width, height=height)
    grey, cmyk, palette = rgb.convert("L"), rgb.convert("CMYK"), rgb.quantize(32)
    seen_through = rgb.copy()
    seen_through.putalpha(grey)
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    real = Image.fromarray(np.asarray(grey).astype(np.float32) / 255)
    turned = Image.Exif()
    turned[0x0112] = 6
    frames: Mapping[str, Any] = {"append_images": [other, other]}
    p3 = in_space(rgb, "Display P3")
    wide_gamut = {"icc_profile": rgb_profile("Display P3")}
    files = {
        "jpeg-profile": encoded(p3, "JPEG", subsampling=0, quality=95, **wide_gamut),
        "jpeg-inks": encoded(cmyk, "JPEG", icc_profile=cmyk_profile()),
        "png-profile": encoded(p3, "PNG", **wide_gamut),
        "webp-profile": encoded(p3, "WEBP", lossless=True, **wide_gamut),
        "tiff-profile": encoded(p3, "TIFF", compression="tiff_lzw", **wide_gamut),
        "jpeg-baseline": encoded(rgb, "JPEG", quality=85),
        "jpeg-progressive": encoded(rgb, "JPEG", progressive=True, subsampling=0),
        "jpeg-grey": encoded(grey, "JPEG", restart_marker_rows=2),
        "jpeg-cmyk": encoded(cmyk, "JPEG"),
        "jpeg-turned": encoded(rgb, "JPEG", exif=turned, icc_profile=b"no profile" * 30),
        "jpeg-preview": encoded(rgb, "MPO", append_images=[other]),
        "png-rgb": encoded(rgb, "PNG", exif=turned),
        "png-16": encoded(wide, "PNG"),
        "png-alpha": encoded(seen_through, "PNG"),
        "png-palette": encoded(palette, "PNG", transparency=3),
        "png-bilevel": encoded(rgb.convert("1"), "PNG"),
        "png-interlaced": interlaced_png(grey),
        "png-animated": encoded(rgb, "PNG", **frames),
        "webp-lossy": encoded(rgb, "WEBP"),
        "webp-lossless": encoded(rgb, "WEBP", lossless=True, exif=turned),
        "webp-alpha": encoded(seen_through, "WEBP"),
        "webp-animated": encoded(rgb, "WEBP", **frames),
        "tiff-raw": encoded(rgb, "TIFF", exif=turned),
        "tiff-16": encoded(wide, "TIFF"),
        "tiff-real": encoded(real, "TIFF"),
        "tiff-cmyk": encoded(cmyk, "TIFF", compression="tiff_lzw"),
        "tiff-pages": encoded(rgb, "TIFF", **frames),
        "tiff-big": encoded(rgb, "TIFF", big_tiff=True),
        "tiff-tiles": tiled_tiff(grey),
        "bmp-rgb": encoded(rgb, "BMP"),
        "bmp-palette": encoded(palette, "BMP"),
        "bmp-bilevel": encoded(rgb.convert("1"), "BMP"),
        "bmp-alpha": encoded(seen_through, "BMP"),
        "bmp-run-length": run_length_bmp(palette),
    }
    if features.check("libtiff"):
        for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
            files["tiff-" + compression.removeprefix("tiff_")] = encoded(rgb, "TIFF", compression=compression)
        files["tiff-fax"] = encoded(rgb.convert("1"), "TIFF", compression="group4")
    return files


def png_chunk(name: bytes, content: bytes) -> bytes:
    """One chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, bits: int, rows: bytes, *, interlaced: bool = False) -> bytes:
    """A grey PNG around compressed ``rows``; its sizes are written as they are given."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, interlaced)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def interlaced_png(grey: Image.Image) -> bytes:
    """Adam7, which Pillow reads but does not write."""
    pixels = np.asarray(grey)
    steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(
        b"\0" + row.tobytes()
        for top, left, down, across in steps
        for row in pixels[top::down, left::across]
        if row.size
    )
    return png(grey.width, grey.height, 8, zlib.compress(rows), interlaced=True)


def tiled_tiff(grey: Image.Image, side: int = 32) -> bytes:
    """Grey, uncompressed, in square tiles."""
    columns, rows = -(-grey.width // side), -(-grey.height // side)
    padded = np.zeros((rows * side, columns * side), np.uint8)
    padded[: grey.height, : grey.width] = np.asarray(grey)
    tiles = [
        padded[y : y + side, x : x + side].tobytes()
        for y in range(0, rows * side, side)
        for x in range(0, columns * side, side)
    ]
    count, size, entries = len(tiles), side * side, 11
    lists = 8 + 2 + 12 * entries + 4
    pixels = lists + 8 * count
    tags = {256: (1, grey.width), 257: (1, grey.height), 258: (1, 8), 259: (1, 1), 262: (1, 1), 277: (1, 1)}
    tags |= {
        322: (1, side),
        323: (1, side),
        324: (count, lists),
        325: (count, lists + 4 * count),
        339: (1, 1),
    }
    directory = b"".join(struct.pack("<HHII", tag, 4, *value) for tag, value in sorted(tags.items()))
    places = struct.pack(f"<{count}I", *range(pixels, pixels + count * size, size))
    sizes = struct.pack(f"<{count}I", *[size] * count)
    head = b"II*\0" + struct.pack("<IH", 8, entries) + directory + bytes(4)
    return head + places + sizes + b"".join(tiles)


def run_length_bmp(palette: Image.Image) -> bytes:
    """RLE8, which Pillow reads but does not write."""
    colors = (palette.getpalette() or [])[: 3 * 256]
    table = b"".join(bytes([*colors[i : i + 3][::-1], 0]) for i in range(0, len(colors), 3)).ljust(
        1024, b"\0"
    )
    rows = np.asarray(palette)[::-1]
    data = b"".join(b"".join(bytes([1, int(v)]) for v in row) + b"\0\0" for row in rows) + b"\0\1"
    start = 14 + 40 + len(table)
    info = struct.pack("<IiiHHIIiiII", 40, palette.width, palette.height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + table + data


def drawn_heifs(seed: int, width: int = 120, height: int = 90) -> dict[str, bytes]:
    """A lesion as HEIC, by a name such as ``heif-alpha``. Needs the extra ``heif``."""
    import_module("models.heif")
    rng = np.random.default_rng(seed)
    rgb = draw_lesion(rng, code="mel", width=width, height=height)
    other = draw_lesion(rng, code="nv", width=width, height=height)
    seen_through = rgb.copy()
    seen_through.putalpha(rgb.convert("L"))
    turned = Image.Exif()
    turned[0x0112] = 6
    profile = {"icc_profile": rgb_profile("Display P3")}
    return {
        "heif-rgb": encoded(rgb, "HEIF"),
        "heif-lossless": encoded(rgb, "HEIF", quality=-1, chroma=444),
        "heif-grey": encoded(rgb.convert("L"), "HEIF"),
        "heif-alpha": encoded(seen_through, "HEIF"),
        "heif-turned": encoded(rgb, "HEIF", exif=turned.tobytes()),
        "heif-profile": encoded(in_space(rgb, "Display P3"), "HEIF", **profile),
        "heif-several": encoded(rgb, "HEIF", append_images=[other]),
        "heif-primary-last": encoded(other, "HEIF", append_images=[rgb], primary_index=1),
        "heif-premultiplied": encoded(seen_through.convert("RGBa"), "HEIF"),
        "heif-tiles": encoded(rgb, "HEIF", tile_size=64),  # as phones write it
    }


def drawn_dicoms(seed: int, width: int = 120, height: int = 90) -> dict[str, bytes]:
    """A lesion as DICOM photographs, by a name such as ``dicom-jpeg``."""
    rgb = draw_lesion(np.random.default_rng(seed), code="mel", width=width, height=height)
    jpeg = encoded(rgb, "JPEG")
    jpeg += b"\0" * (len(jpeg) % 2)
    item = struct.Struct("<HHI")
    wrapped = item.pack(0xFFFE, 0xE000, 0) + item.pack(0xFFFE, 0xE000, len(jpeg)) + jpeg
    wrapped += item.pack(0xFFFE, 0xE0DD, 0)
    pixels, grey = np.asarray(rgb), np.asarray(rgb.convert("L"))
    planes = np.moveaxis(pixels, -1, 0)
    return {
        "dicom-rgb": _dicom(rgb.size, "RGB", pixels.tobytes()),
        "dicom-planes": _dicom(rgb.size, "RGB", planes.tobytes(), planar=1),
        "dicom-grey": _dicom(rgb.size, "MONOCHROME2", grey.tobytes() * 2, frames=2),
        "dicom-jpeg": _dicom(rgb.size, "YBR_FULL_422", wrapped, jpeg=True),
    }


def _dicom(
    size: tuple[int, int],
    photometric: str,
    pixels: bytes,
    *,
    planar: int = 0,
    frames: int = 1,
    jpeg: bool = False,
) -> bytes:
    """A secondary capture of a Jane Doe, explicit little endian (PS3.10 section 7)."""

    def element(tag: int, vr: str, value: bytes | str | int, length: int | None = None) -> bytes:
        if isinstance(value, int):
            value = struct.pack("<H", value)
        elif isinstance(value, str):
            value = value.encode() + b" " * (len(value) % 2)
        length = len(value) if length is None else length
        long = vr in ("OB", "OW", "SQ", "UN")
        head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
        return head + struct.pack("<HI" if long else "<H", *((0, length) if long else (length,))) + value

    syntax = "1.2.840.10008.1.2.4.50" if jpeg else "1.2.840.10008.1.2.1\0"
    meta = element(0x0002_0010, "UI", syntax)
    meta = element(0x0002_0000, "UL", struct.pack("<I", len(meta))) + meta
    nested = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    samples = 1 if photometric.startswith("MONO") else 3
    elements = [
        element(0x0008_0016, "UI", "1.2.840.10008.5.1.4.1.1.7\0"),
        element(0x0008_1140, "SQ", nested),
        element(0x0010_0010, "PN", "Doe^Jane"),
        element(0x0028_0002, "US", samples),
        element(0x0028_0004, "CS", photometric),
        *([element(0x0028_0006, "US", planar)] if samples == 3 else []),
        *([element(0x0028_0008, "IS", str(frames))] if frames > 1 else []),
        element(0x0028_0010, "US", size[1]),
        element(0x0028_0011, "US", size[0]),
        element(0x0028_0100, "US", 8),
        element(0x0028_0101, "US", 8),
        element(0x0028_0102, "US", 7),
        element(0x0028_0103, "US", 0),
        element(0x7FE0_0010, "OB", pixels, 0xFFFF_FFFF if jpeg else None),
    ]
    return bytes(128) + b"DICM" + meta + b"".join(elements)
