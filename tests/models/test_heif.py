"""HEIC: what the decoder makes of it. The files are of pillow-heif, and like those of phones only in part."""

import struct
import subprocess
import sys
from random import Random

import numpy as np
import pytest
from PIL import Image

from models.errors import CorruptImage, ImageTooLarge, UnsupportedImage
from models.preprocess import ACCEPTED_FORMATS, decode
from tests.icc_profiles import in_space, rgb_profile
from tests.long.drawn_files import drawn_heifs
from tests.long.mutations import mutate
from tests.long.oracle import compare
from tests.service.process import ROOT
from tests.synthetic import draw_lesion, encoded

pytest.importorskip("pillow_heif", reason="the extra 'heif' is not installed: HEIC is NOT tested")

FILES = drawn_heifs(4, 96, 72)
LESION = draw_lesion(np.random.default_rng(1), code="mel", width=320, height=240)


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_variant_is_decoded_and_looks_as_the_plugin_shows_it(name: str) -> None:
    found = decode(FILES[name])
    assert found.format == "HEIF"
    assert (found.width, found.height) == ((72, 96) if name == "heif-turned" else (96, 72))
    assert found.several_frames == (name == "heif-several")
    assert compare(FILES[name], max_pixels=1_000_000, intact=True) == "decoded HEIF"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_once(orientation: int) -> None:
    """Phones write it as a property of the image, and in EXIF, too."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = decode(encoded(LESION, "HEIF", quality=-1, chroma=444, exif=exif.tobytes()))
    expected = decode(encoded(LESION, "PNG", exif=exif))
    assert (turned.width, turned.height) == (expected.width, expected.height)
    assert np.abs(turned.pixels.astype(int) - expected.pixels).mean() < 1.5


def test_a_wide_profile_is_converted_to_srgb() -> None:
    wide = in_space(LESION, "Display P3")
    file = encoded(wide, "HEIF", quality=-1, chroma=444, icc_profile=rgb_profile("Display P3"))
    found, expected = decode(file), decode(encoded(LESION, "PNG"))
    assert not found.profile_ignored
    assert np.abs(found.pixels.astype(int) - expected.pixels).mean() < 2


@pytest.mark.parametrize("name", sorted(FILES))
def test_damaged_files_are_refused_exactly_when_the_plugin_refuses_them(name: str) -> None:
    outcomes = set()
    for seed in range(40):
        rng = Random(f"{name}:{seed}")
        data = FILES[name]
        outcomes.add(compare(data[: rng.randrange(len(data))], max_pixels=1_000_000))
        outcomes.add(compare(mutate(rng, [data]), max_pixels=1_000_000))
    assert "CorruptImage" in outcomes


def test_the_limit_of_pixels_holds_before_anything_is_decoded() -> None:
    with pytest.raises(ImageTooLarge):
        decode(FILES["heif-rgb"], max_pixels=96 * 72 - 1)


@pytest.mark.parametrize("size", [(20_000, 20_000), (1, 1), (0, 0), (2**31, 2**31)])
def test_a_size_that_lies_is_refused(size: tuple[int, int]) -> None:
    data = bytearray(FILES["heif-rgb"])
    at = data.index(b"ispe") + 8  # the box has a version and flags before the size
    assert struct.unpack_from(">II", data, at) == (96, 72)
    struct.pack_into(">II", data, at, *size)
    with pytest.raises((CorruptImage, ImageTooLarge)):
        decode(bytes(data))


@pytest.mark.parametrize("brand", [b"avif", b"isom", b"mif1"])
def test_other_files_of_the_same_container_are_not_supported(brand: bytes) -> None:
    size = int.from_bytes(FILES["heif-rgb"][:4], "big")
    data = FILES["heif-rgb"][:8] + brand.ljust(size - 8, b"\0") + FILES["heif-rgb"][size:]
    with pytest.raises(UnsupportedImage):
        decode(data)


def test_without_the_extra_the_refusal_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "models.heif", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # an import of it fails
    with pytest.raises(UnsupportedImage, match="extra 'heif'"):
        decode(FILES["heif-rgb"])


def test_the_service_imports_without_the_extra() -> None:
    program = "import sys; sys.modules['pillow_heif'] = None; import service.app, models.preprocess"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


def test_heic_and_heif_have_media_types() -> None:
    assert (ACCEPTED_FORMATS["HEIC"], ACCEPTED_FORMATS["HEIF"]) == ("image/heic", "image/heif")
