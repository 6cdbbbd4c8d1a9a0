"""``decode``: returns the pixels that training and serving read, or a clear error."""

import io
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.errors import CorruptImage, ImageError, ImageTooLarge, UnsupportedImage
from models.preprocess import decode
from tests.synthetic import draw_lesion, encoded

ROOT = Path(__file__).parents[2]

LESION = draw_lesion(np.random.default_rng(3), code="bkl")


FILES = {
    "jpeg": encoded(LESION.resize((120, 90)), "JPEG"),
    "png": encoded(LESION.resize((60, 45)), "PNG"),
    "webp": encoded(LESION.resize((120, 90)), "WEBP"),
    "tiff": encoded(LESION.resize((60, 45)), "TIFF", compression="tiff_lzw"),
    "bmp": encoded(LESION.resize((60, 45)), "BMP"),
    "palette": encoded(LESION.resize((60, 45)).quantize(16), "PNG", transparency=3),
}


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF", "BMP"])
def test_lossless_formats_give_equal_pixels(format_: str) -> None:
    options = {"lossless": True} if format_ == "WEBP" else {}
    found = decode(encoded(LESION, format_, **options))
    assert (found.format, found.width, found.height, found.several_frames) == (format_, 600, 450, False)
    assert found.pixels.dtype == np.uint8
    assert found.pixels.shape == (224, 224, 3)
    np.testing.assert_array_equal(found.pixels, decode(encoded(LESION, "PNG")).pixels)


@settings(max_examples=80, deadline=None)
@given(
    size=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    target=st.sampled_from([(224, 224), (100, 125), (7, 300)]),
    format_=st.sampled_from(["PNG", "JPEG"]),
)
def test_any_size_is_accepted_at_any_target(
    size: tuple[int, int], target: tuple[int, int], format_: str
) -> None:
    data = encoded(Image.new("RGB", size, (180, 120, 90)), format_)
    found = decode(data, height=target[0], width=target[1])
    assert found.pixels.shape == (*target, 3)
    assert abs(found.pixels.astype(int) - [180, 120, 90]).max() <= 2


def test_the_largest_centred_square_is_cut() -> None:
    image = Image.new("RGB", (600, 450), "red")
    image.paste("blue", (75, 0, 525, 450))
    pixels = decode(encoded(image, "PNG")).pixels
    assert (pixels[:, 2:-2] == [0, 0, 255]).all()  # bicubic reaches a little beyond the cut
    assert pixels[:, [0, -1], 2].min() > 230


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, format_: str) -> None:
    """Each of four differently coloured quarters is decoded to its place."""
    upright = Image.new("RGB", (640, 640))
    colors = {(0, 0): "red", (320, 0): "lime", (0, 320): "blue", (320, 320): "white"}
    for place, color in colors.items():
        upright.paste(color, (*place, place[0] + 320, place[1] + 320))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that the camera did
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(stored, format_, exif=exif)).pixels.astype(int)
    expected = decode(encoded(upright, "PNG")).pixels.astype(int)
    assert abs(found - expected).mean() < 4


@pytest.mark.parametrize("size", [(960, 718), (1920, 1436), (4000, 3000)])  # to a half, 1/4, 1/8
def test_reduced_decoding_differs_from_full_decoding_by_noise_only(size: tuple[int, int]) -> None:
    jpeg = encoded(LESION.resize(size, Image.Resampling.BICUBIC), "JPEG", quality=92)
    reduced = decode(jpeg).pixels.astype(int)
    full = decode(encoded(Image.open(io.BytesIO(jpeg)), "BMP")).pixels.astype(int)
    assert 0 < abs(reduced - full).mean() < 0.5
    assert abs(reduced - full).max() <= 8


def test_grey_is_one_channel_of_luma() -> None:
    found = decode(encoded(Image.new("RGB", (300, 300), (255, 0, 0)), "PNG"), color="grey")
    assert found.pixels.shape == (224, 224, 1)
    assert (found.pixels == 76).all()


def test_transparency_is_laid_on_white() -> None:
    found = decode(encoded(Image.new("RGBA", (300, 300), (255, 0, 0, 0)), "PNG"))
    assert (found.pixels == 255).all()


def test_16_bit_samples_are_scaled_to_8() -> None:
    for format_ in ("PNG", "TIFF"):
        data = encoded(Image.fromarray(np.full((300, 300), 0x8000, np.uint16)), format_)
        assert abs(decode(data).pixels.astype(int) - 128).max() <= 1


def test_real_valued_samples_are_scaled_by_their_range_and_may_hold_nan() -> None:
    values = np.full((300, 300), 0.5, np.float32)
    values[:, 150:] = 4.0
    plain = decode(encoded(Image.fromarray(values), "TIFF")).pixels
    assert plain[5, -5, 0] == 255
    assert abs(int(plain[5, 5, 0]) - 32) <= 1
    values[0, 0] = np.nan
    assert decode(encoded(Image.fromarray(values), "TIFF")).pixels.shape == (224, 224, 3)


@pytest.mark.parametrize(
    ("format_", "mode", "options", "most"),
    [
        ("PNG", "RGBA", {}, 9),
        ("PNG", "LA", {}, 9),
        ("PNG", "I;16", {}, 9),
        ("PNG", "P", {}, 9),
        ("TIFF", "CMYK", {"compression": "tiff_lzw"}, 13),
        ("TIFF", "RGB", {"compression": "tiff_lzw", "tiffinfo": {278: 3000}}, 13),
        ("JPEG", "RGB", {}, 1),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}, 13),
        ("JPEG", "CMYK", {"progressive": True, "subsampling": 0}, 13),
        ("WEBP", "RGB", {}, 17),
        ("WEBP", "RGBA", {"lossless": True}, 17),
        ("WEBP", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (3000, 3000), "red")]}, 17),
    ],
    # Short and the same in every process: an image's own name holds its address.
    ids=lambda value: (
        value if isinstance(value, str) else "-".join(value) if isinstance(value, dict) else None
    ),
)
@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read where Linux keeps them")
def test_decoding_takes_no_more_memory_per_pixel_than_stated(
    format_: str, mode: str, options: dict[str, Any], most: int
) -> None:
    """Bytes per pixel at the peak, measured in a process that does nothing but this one decode."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turning takes a copy
    options = options if format_ == "BMP" else options | {"exif": exif}
    data = encoded(Image.new(mode, (3000, 3000)), format_, **options)
    code = """
import sys
from pathlib import Path
from PIL import Image
from models.preprocess import decode
peak = lambda: int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
Image.init()
data = sys.stdin.buffer.read()
base = peak()
decode(data)
print((peak() - base) / 9e6)
"""
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True, cwd=ROOT)
    assert float(done.stdout) < most


@pytest.mark.parametrize("format_", ["TIFF", "PNG", "WEBP"])
def test_several_pages_or_frames_are_noticed(format_: str) -> None:
    other = LESION.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    options: dict[str, Any] = {"lossless": True} if format_ == "WEBP" else {}
    found = decode(encoded(LESION, format_, save_all=True, append_images=[other, other], **options))
    assert found.several_frames
    np.testing.assert_array_equal(found.pixels, decode(encoded(LESION, "PNG")).pixels)


def test_the_pages_of_a_tiff_are_not_walked() -> None:
    """16,000 pages in 0.7 MB: Pillow would compare each with all before it."""
    first = bytearray(encoded(LESION.resize((60, 45)), "TIFF"))
    directory = struct.unpack_from("<I", first, 4)[0]
    link = directory + 2 + 12 * struct.unpack_from("<H", first, directory)[0]
    struct.pack_into("<I", first, link, len(first))
    tags = {256: 1, 257: 1, 273: 8}
    page = struct.pack("<H", 3) + b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in tags)
    places = range(len(first) + 42, len(first) + 42 * 16_000, 42)
    pages = b"".join(page + struct.pack("<I", place) for place in places) + page + bytes(4)
    before = time.process_time()
    assert decode(bytes(first) + pages).several_frames
    assert time.process_time() - before < 1


def test_a_phones_embedded_preview_is_not_a_frame() -> None:
    found = decode(encoded(LESION, "MPO", save_all=True, append_images=[LESION.resize((60, 45))]))
    assert (found.format, found.several_frames) == ("JPEG", False)


def with_tiles(width: int, height: int) -> bytes:
    """A grey TIFF of 60 x 45 pixels that says to be stored in tiles of ``width`` x ``height``."""
    tags = {256: 60, 257: 45, 258: 8, 259: 8, 262: 1, 277: 1, 322: width, 323: height, 324: 8, 325: 9}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def test_each_kind_of_unusable_file_raises_its_own_error() -> None:
    with pytest.raises(UnsupportedImage):
        decode(b"")
    with pytest.raises(UnsupportedImage):
        decode(encoded(LESION, "GIF"))
    with pytest.raises(CorruptImage):
        decode(FILES["jpeg"][:-200])
    with pytest.raises(CorruptImage):
        decode(b"\xff\xd8\xff")
    for magic in (b"II+\0", b"MM\0+"):  # BigTIFF
        with pytest.raises(CorruptImage):
            decode(magic + bytes(4))
    with pytest.raises(ImageTooLarge, match="120 x 90"):
        decode(FILES["jpeg"], max_pixels=120 * 90 - 1)
    with pytest.raises(ImageTooLarge, match="20000 x 10000"):
        decode(with_tiles(20_000, 10_000))


@settings(max_examples=250, deadline=None)
@given(name=st.sampled_from(sorted(FILES)), data=st.data())
def test_mutated_files_raise_nothing_but_image_errors(name: str, data: st.DataObject) -> None:
    content = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 8))):
        # Headers decide most: half of the changes hit the first bytes.
        end = data.draw(st.sampled_from([40, len(content)]))
        at = data.draw(st.integers(0, min(end, len(content))))
        content[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
    try:
        found = decode(bytes(content), max_pixels=4_000_000)
    except ImageError:
        return
    assert found.pixels.shape == (224, 224, 3)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_not_an_image(content: bytes) -> None:
    with pytest.raises(ImageError):
        decode(content)


def test_real_images_decode(ham10000: Path) -> None:
    for path in sorted((ham10000 / "images").glob("*.jpg"))[:40] + sorted(
        (ham10000 / "originals").glob("*.jpg")
    ):
        found = decode(path.read_bytes())
        assert found.pixels.shape == (224, 224, 3)
        assert (found.width, found.height) in {(344, 258), (600, 450)}


SHORT_OF_MEMORY = """
import io, resource
from PIL import Image
from models.preprocess import decode
def encoded(width):
    buffer = io.BytesIO()
    Image.new("RGB", (width, width), "brown").save(buffer, "JPEG", progressive=True)
    return buffer.getvalue()
photo = encoded(4000)
decode(encoded(300))  # loads what decoding imports
with open("/proc/self/status") as status:
    used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (used + 10_000_000, resource.RLIM_INFINITY))
try:
    decode(photo)
except MemoryError:
    print("no memory")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA and /proc are Linux's")
def test_a_progressive_photo_is_not_called_damaged_when_the_server_lacks_memory() -> None:
    """libjpeg reports a failed allocation as a broken data stream: the user would repair a sound file."""
    done = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "no memory\n", done.stderr
