"""HEIC: what the decoder makes of it. The files are of pillow-heif, and like those of phones only in part."""

import io
import subprocess
import sys
from random import Random

import numpy as np
import pytest
from PIL import Image

from models.errors import CorruptImage, ImageTooLarge, UnsupportedImage
from models.preprocess import ACCEPTED_FORMATS, decode
from tests.heif_files import with_size
from tests.icc_profiles import in_space, rgb_profile
from tests.long.drawn_files import drawn_heifs
from tests.long.mutations import mutate
from tests.long.oracle import compare
from tests.service.process import ROOT
from tests.synthetic import draw_lesion, encoded

pillow_heif = pytest.importorskip(
    "pillow_heif", reason="the extra 'heif' is not installed: HEIC is NOT tested"
)

FILES = drawn_heifs(4, 96, 72)
LESION = draw_lesion(np.random.default_rng(1), code="mel", width=320, height=240)


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_variant_is_decoded_and_looks_as_the_plugin_shows_it(name: str) -> None:
    found = decode(FILES[name])
    assert found.format == "HEIF"
    assert (found.width, found.height) == ((72, 96) if name == "heif-turned" else (96, 72))
    assert found.several_frames == (name in ("heif-several", "heif-primary-last"))
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


def test_of_several_images_the_primary_is_read() -> None:
    """It need not be the first."""
    other = draw_lesion(np.random.default_rng(2), code="nv", width=200, height=150)
    lossless = {"quality": -1, "chroma": 444}
    found = decode(encoded(other, "HEIF", append_images=[LESION], primary_index=1, **lossless))
    assert (found.width, found.height) == LESION.size
    assert np.abs(found.pixels.astype(int) - decode(encoded(LESION, "PNG")).pixels).mean() < 1.5


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBa", "LA"])
def test_transparency_is_laid_on_white_as_of_a_png(mode: str) -> None:
    picture = LESION.convert("L") if mode == "LA" else LESION.copy()
    if mode != "RGB":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    shown = decode(encoded(picture, "PNG"))
    if mode == "RGBa":
        picture = picture.convert("RGBa")
    found = decode(encoded(picture, "HEIF", quality=-1, chroma=444))
    assert np.abs(found.pixels.astype(int) - shown.pixels).mean() < 1.5


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_ten_bits_are_scaled_to_eight(mode: str) -> None:
    picture = LESION.convert(mode)
    samples = np.asarray(picture).astype(np.uint16) * 257
    file = io.BytesIO()
    pillow_heif.from_bytes(f"{mode};16", picture.size, samples.tobytes()).save(file, quality=-1)
    data = file.getvalue()
    assert pillow_heif.open_heif(data, convert_hdr_to_8bit=False).info["bit_depth"] == 10
    expected = decode(encoded(picture, "PNG"))
    assert np.abs(decode(data).pixels.astype(int) - expected.pixels).mean() < 2.5
    assert compare(data, max_pixels=1_000_000, intact=True) == "decoded HEIF"


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
    assert with_size(FILES["heif-rgb"], 96, 72) == FILES["heif-rgb"]
    with pytest.raises((CorruptImage, ImageTooLarge)):
        decode(with_size(FILES["heif-rgb"], *size))


DECODE_WITH_LITTLE_MEMORY = """
import os, resource, sys
from pathlib import Path
from models.preprocess import decode
import models.heif
data = sys.stdin.buffer.read()
ends = set()
for allowed in range(0, 20_000_000, 1_000_000):
    if (child := os.fork()) == 0:
        end = 3
        try:
            size = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_DATA, (size + allowed,) * 2)
            end = 0 if decode(data).format == "HEIF" else 3
        except MemoryError:
            end = 1
        finally:
            os._exit(end)
    ends.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(*sorted(ends))
"""


def test_whatever_memory_is_left_a_good_file_is_decoded_or_said_to_lack_memory() -> None:
    """A codec that reported damage, or ended the process, would refuse a good photograph."""
    large = encoded(LESION.resize((1600, 1200)), "HEIF", enc_params={"preset": "ultrafast"})
    # A process of its own: one with threads must not fork.
    command = [sys.executable, "-c", DECODE_WITH_LITTLE_MEMORY]
    done = subprocess.run(command, cwd=ROOT, input=large, capture_output=True, check=True, timeout=120)
    assert done.stdout.split() == [b"0", b"1"]


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
