"""JPEGs whose data libjpeg reports as damaged are refused, although Pillow decodes them."""

import base64
import io
import itertools
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.errors import CorruptImage
from models.preprocess import decode
from tests.dicom_files import dicom_file
from tests.long.pixel_spans import pixel_spans
from tests.synthetic import draw_lesion, encoded

LESION = draw_lesion(np.random.default_rng(8), code="bcc")
END = b"\xff\xd9"
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"quality": 90},
    "full colour": {"subsampling": 0},
    "restarts": {"restart_marker_rows": 2},
    "optimized": {"optimize": True, "quality": 30},
}


def pillow_shows(data: bytes) -> bool:
    try:
        Image.open(io.BytesIO(data)).load()
    except OSError:
        return False
    return True


def cut(data: bytes, share: float) -> bytes:
    """Return ``data`` without its last pixels but with an end marker, as some repair software writes it."""
    [(start, end)] = pixel_spans(data)
    return data[: start + int((end - start) * share)].rstrip(b"\xff") + END


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("side", [224, 64], ids=["full", "reduced"])
def test_a_picture_that_ends_early_is_refused(variant: str, mode: str, side: int) -> None:
    data = encoded(LESION.convert(mode), "JPEG", **VARIANTS[variant])
    for share in (0.1, 0.5, 0.9, 0.99):
        broken = cut(data, share)
        assert pillow_shows(broken)
        with pytest.raises(CorruptImage, match=r"its compressed data ends before the picture\. Send"):
            decode(broken, height=side, width=side)


@pytest.mark.parametrize("variant", VARIANTS)
def test_data_that_goes_on_after_the_picture_is_refused(variant: str) -> None:
    data = encoded(LESION, "JPEG", **VARIANTS[variant])
    broken = data[:-2] + b"\x12\x34" * 20 + END
    assert pillow_shows(broken)
    with pytest.raises(CorruptImage, match="its compressed data goes on after the picture"):
        decode(broken)


def test_damage_that_shifts_the_rest_is_mostly_detected() -> None:
    data = encoded(LESION, "JPEG", quality=90)
    [(start, end)] = pixel_spans(data)
    refused = shown = 0
    for seed in range(60):
        rng = Random(seed)
        at = rng.randrange(start, end - 600)
        broken = data[:at] + data[at + 512 :] if seed % 2 else data[:at] + bytes(512) + data[at + 512 :]
        shown += pillow_shows(broken)
        try:
            decode(broken)
        except CorruptImage:
            refused += 1
    assert shown > 50
    assert refused > 0.7 * shown


def test_intact_jpegs_of_every_kind_are_read() -> None:
    rng = np.random.default_rng(2)
    noise = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
    sizes = [(1, 1), (7, 9), (8, 8), (16, 16), (17, 33), (40, 40)]
    kinds = itertools.product(("RGB", "L", "CMYK"), sizes, (1, 60, 100), (0, 1, 2), (0, 1), (False, True))
    for mode, size, quality, subsampling, restarts, progressive in kinds:
        for picture in (noise.crop((0, 0, *size)), Image.new("RGB", size, "white")):
            data = encoded(
                picture.convert(mode),
                "JPEG",
                quality=quality,
                subsampling=subsampling,
                restart_marker_blocks=restarts,
                progressive=progressive,
            )
            assert (decode(data, height=8, width=8).width) == size[0]


@pytest.mark.parametrize("more", [bytes(3), b"\xff" * 9, END + bytes(5000), END + b"trailer" * 999])
def test_padding_and_trailing_bytes_are_accepted(more: bytes) -> None:
    data = encoded(LESION, "JPEG")
    np.testing.assert_array_equal(decode(data[:-2] + more + END).pixels, decode(data).pixels)


def test_a_tiny_jpeg_followed_by_another_is_accepted() -> None:
    tiny = encoded(Image.new("L", (8, 8), 90), "JPEG")
    assert decode(tiny + encoded(LESION, "JPEG")).width == 8


def test_arithmetic_coding_is_accepted() -> None:
    """A grey ramp by ``cjpeg -arithmetic``. Pillow reads this coding and does not write it."""
    data = base64.b64decode(
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcp"
        "LDAxNDQ0Hyc5PTgyPC4zNDL/yQALCAAQABgBAREA/8wABgAQEAX/2gAIAQEAAD8A/wCz8jjLiED5s1HozMSnPgUgdz0igxUy"
        "sQ/ltv/Z"
    )
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.crop((4, 0, 20, 16)))
    np.testing.assert_array_equal(decode(data, height=16, width=16, color="grey").pixels[..., 0], expected)


def test_a_preview_before_or_after_the_picture_is_accepted() -> None:
    small = encoded(LESION.resize((60, 45)), "JPEG")
    exif = Image.Exif()
    exif[0x010E] = "x"
    data = encoded(LESION, "JPEG", exif=exif.tobytes() + small)
    assert data.count(END) == 2
    np.testing.assert_array_equal(decode(data).pixels, decode(encoded(LESION, "JPEG")).pixels)
    both = encoded(LESION, "MPO", append_images=[LESION.resize((60, 45))])
    assert decode(both).width == 600
    start, end = pixel_spans(both)[0]
    broken = both[: (start + end) // 2].rstrip(b"\xff") + both[end:]
    with pytest.raises(CorruptImage, match="its compressed data ends before"):
        decode(broken)


def test_a_damaged_jpeg_in_a_dicom_file_is_refused() -> None:
    broken = cut(encoded(LESION, "JPEG"), 0.5)
    with pytest.raises(CorruptImage, match="its compressed data ends before"):
        decode(dicom_file(LESION, jpeg=broken))


def test_every_real_image_is_intact(ham10000: Path) -> None:
    for path in sorted((ham10000 / "images").glob("*.jpg"))[::40]:
        decode(path.read_bytes())


def test_truncated_photographs_are_all_refused(ham10000: Path) -> None:
    for path in sorted((ham10000 / "originals").glob("*.jpg"))[:8]:
        data = path.read_bytes()
        for share in (0.05, 0.3, 0.6, 0.95):
            assert pillow_shows(cut(data, share))
            with pytest.raises(CorruptImage):
                decode(cut(data, share))
