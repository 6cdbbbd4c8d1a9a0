"""Embedded ICC profiles: colours are converted to sRGB; an unusable profile is ignored and reported."""

import io
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from models import color
from models.preprocess import Decoded, decode
from tests.dicom_files import dicom_file
from tests.icc_profiles import SPACES, cmyk_profile, grey_profile, in_space, rgb_profile
from tests.long.drawn_files import png_chunk
from tests.synthetic import draw_lesion, encoded

LESION = draw_lesion(np.random.default_rng(5), code="mel")
OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 97, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
}
WIDE = [name for name in SPACES if name != "sRGB"]


def difference(found: Decoded, expected: Decoded | Image.Image) -> float:
    """Return the mean absolute difference of the pixels."""
    other = expected.pixels if isinstance(expected, Decoded) else np.asarray(expected)
    return float(np.abs(found.pixels.astype(int) - other).mean())


@pytest.mark.parametrize("space", WIDE)
@pytest.mark.parametrize("format_", OPTIONS)
def test_a_picture_in_other_colours_is_read_as_the_same_picture_in_srgb(format_: str, space: str) -> None:
    plain = decode(encoded(LESION, format_, **OPTIONS[format_]))
    stored = in_space(LESION, space)
    found = decode(encoded(stored, format_, icc_profile=rgb_profile(space), **OPTIONS[format_]))
    unprofiled = decode(encoded(stored, format_, **OPTIONS[format_]))
    assert difference(found, plain) < 1
    assert difference(unprofiled, plain) > 2
    assert not found.profile_ignored


@pytest.mark.parametrize("format_", OPTIONS)
def test_a_profile_of_srgb_changes_no_pixel(format_: str) -> None:
    plain = decode(encoded(LESION, format_, **OPTIONS[format_]))
    for profile in (
        rgb_profile("sRGB"),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    ):
        found = decode(encoded(LESION, format_, icc_profile=profile, **OPTIONS[format_]))
        np.testing.assert_array_equal(found.pixels, plain.pixels)
        assert not found.profile_ignored


def test_without_a_profile_nothing_is_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.samples.to_srgb", None)  # calling it fails
    for format_, options in OPTIONS.items():
        assert not decode(encoded(LESION, format_, **options)).profile_ignored


def test_a_large_jpeg_with_a_profile_is_still_decoded_at_a_reduced_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []
    load = Image.Image.load

    def watched(image: Image.Image) -> Any:
        sizes.append(image.size)
        return load(image)

    stored = in_space(LESION, "Display P3").resize((2400, 1800))
    data = encoded(stored, "JPEG", icc_profile=rgb_profile("Display P3"))
    monkeypatch.setattr(Image.Image, "load", watched)
    found = decode(data)
    assert max(sizes) == (600, 450)
    assert difference(found, decode(encoded(LESION, "PNG"))) < 2


@pytest.mark.parametrize("space", WIDE)
def test_palette_transparency_and_orientation_work_with_a_profile(space: str) -> None:
    profile, stored = rgb_profile(space), in_space(LESION, space)
    palette = encoded(stored.quantize(64), "PNG", icc_profile=profile)
    assert difference(decode(palette), decode(encoded(LESION.quantize(64), "PNG"))) < 2
    clear, expected = stored.copy(), LESION.copy()
    clear.putalpha(LESION.convert("L"))
    expected.putalpha(LESION.convert("L"))
    found = decode(encoded(clear, "PNG", icc_profile=profile))
    assert difference(found, decode(encoded(expected, "PNG"))) < 1
    exif = Image.Exif()
    exif[0x0112] = 6
    found = decode(encoded(stored, "JPEG", exif=exif, icc_profile=profile, quality=97))
    assert difference(found, decode(encoded(LESION, "JPEG", exif=exif, quality=97))) < 2


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_with_a_profile_of_grey_is_read_by_its_curve(mode: str) -> None:
    grey = LESION.convert("L")
    if mode == "I;16":
        stored = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        stored = grey.convert(mode)
    dark = decode(encoded(stored, "PNG", icc_profile=grey_profile(3.0)))
    assert not dark.profile_ignored
    values = decode(encoded(stored, "PNG")).pixels / 255
    linear = values**3.0
    expected = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(dark.pixels - expected).mean() < 1.5


def test_grey_with_a_profile_of_rgb_means_equal_red_green_and_blue() -> None:
    found = decode(encoded(LESION.convert("L"), "JPEG", icc_profile=rgb_profile("sRGB")))
    assert not found.profile_ignored
    np.testing.assert_array_equal(found.pixels, decode(encoded(LESION.convert("L"), "JPEG")).pixels)
    wide = decode(encoded(LESION.convert("L"), "JPEG", icc_profile=rgb_profile("ProPhoto RGB")))
    assert not wide.profile_ignored
    assert np.ptp(wide.pixels.astype(int), axis=-1).max() <= 2  # still grey
    assert difference(wide, found) > 3


@pytest.mark.parametrize("format_", ["JPEG", "TIFF"])
def test_cmyk_is_converted_by_its_profile(format_: str) -> None:
    options: dict[str, Any] = {"quality": 97, "subsampling": 0} if format_ == "JPEG" else {}
    inks = LESION.convert("CMYK")
    found = decode(encoded(inks, format_, icc_profile=cmyk_profile(), **options))
    assert not found.profile_ignored
    source, srgb = (
        ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile())),
        ImageCms.createProfile("sRGB"),
    )
    full = ImageCms.profileToProfile(inks, source, srgb, outputMode="RGB")
    assert full is not None
    assert difference(found, ImageOps.fit(full, (224, 224), Image.Resampling.BICUBIC)) < 2
    assert difference(found, decode(encoded(inks, format_, **options))) > 10


@pytest.mark.parametrize("format_", OPTIONS)
@pytest.mark.parametrize(
    "profile",
    [
        b"no profile" * 30,
        rgb_profile("Display P3")[:200],
        rgb_profile("Display P3").replace(b"rXYZ", b"xXYZ"),
        cmyk_profile(),
        grey_profile(2.2),
    ],
    ids=["none", "cut", "without red", "of inks", "of grey"],
)
def test_a_broken_or_mismatched_profile_is_ignored_and_reported(format_: str, profile: bytes) -> None:
    found = decode(encoded(LESION, format_, icc_profile=profile, **OPTIONS[format_]))
    assert found.profile_ignored
    plain = decode(encoded(LESION, format_, **OPTIONS[format_]))
    np.testing.assert_array_equal(found.pixels, plain.pixels)


def test_a_huge_profile_is_ignored() -> None:
    huge = rgb_profile("Display P3") + bytes(5_000_000)
    assert decode(encoded(LESION, "TIFF", icc_profile=huge)).profile_ignored


def test_an_rgb_profile_is_ignored_for_cmyk() -> None:
    inks = LESION.convert("CMYK")
    found = decode(encoded(inks, "JPEG", icc_profile=rgb_profile("Display P3")))
    assert found.profile_ignored
    assert difference(found, decode(encoded(inks, "JPEG"))) < 1


def test_a_profile_that_cannot_be_unpacked_is_reported() -> None:
    data = encoded(LESION, "PNG")
    content = b"name\0\0" + zlib.compress(rgb_profile("Display P3"))[:-40]
    assert decode(data[:33] + png_chunk(b"iCCP", content) + data[33:]).profile_ignored
    jpeg = encoded(LESION, "JPEG", icc_profile=rgb_profile("Display P3"))
    count = jpeg.index(b"ICC_PROFILE\0") + 13
    assert decode(jpeg[:count] + b"\x02" + jpeg[count + 1 :]).profile_ignored


def test_profiles_of_dicom_files_are_used() -> None:
    profile = rgb_profile("Display P3")
    stored, plain = in_space(LESION, "Display P3"), decode(encoded(LESION, "PNG"))
    assert difference(decode(dicom_file(stored, ICCProfile=profile)), plain) < 1
    jpeg = encoded(stored, "JPEG", quality=97, subsampling=0)
    assert difference(decode(dicom_file(stored, jpeg=jpeg, ICCProfile=profile)), plain) < 2
    assert decode(dicom_file(LESION, ICCProfile=b"none")).profile_ignored
    assert not decode(dicom_file(LESION)).profile_ignored


def test_few_conversions_are_cached() -> None:
    for gamma in range(10, 40):
        decode(encoded(LESION.convert("L"), "PNG", icc_profile=grey_profile(gamma / 10)))
    assert color._cached_transform.cache_info().currsize <= 4


def test_the_conversion_of_a_huge_profile_is_not_cached() -> None:
    color._cached_transform.cache_clear()
    profile = grey_profile(1.3)
    stored = encoded(LESION.convert("L"), "TIFF", icc_profile=profile + bytes(200_000))
    assert not decode(stored).profile_ignored
    assert color._cached_transform.cache_info().currsize == 0
