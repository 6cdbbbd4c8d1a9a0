"""``decode`` refuses what Pillow refuses, and gives the same pixels otherwise; ``make fuzz`` tries more."""

import struct
from random import Random

import pytest

from models.errors import CorruptImage
from models.preprocess import decode
from tests.long.drawn_files import drawn_dicoms, drawn_files
from tests.long.mutations import damage_pixels, mutate
from tests.long.oracle import compare

LIMIT = 1_000_000
FILES = drawn_files(4, 96, 72)
LARGE = drawn_files(4, 700, 520)


@pytest.mark.parametrize("name", sorted(FILES))
def test_intact_files_look_as_pillow_shows_them(name: str) -> None:
    for files, side in ((FILES, 224), (LARGE, 224), (LARGE, 64)):
        assert compare(files[name], max_pixels=LIMIT, side=side, intact=True).startswith("decoded")


@pytest.mark.parametrize("name", sorted(FILES))
def test_damaged_files_are_refused_exactly_when_pillow_refuses_them(name: str) -> None:
    """Cut, with flipped bits, and with damage that knows the format; in the pixels and elsewhere."""
    outcomes = set()
    for seed in range(60):
        rng = Random(f"{name}:{seed}")
        data = FILES[name]
        match seed % 3:
            case 0:
                data = damage_pixels(rng, data)
            case 1:
                data = data[: rng.randrange(len(data))]
            case 2:
                data = mutate(rng, [data])
        outcomes.add(compare(data, max_pixels=LIMIT))
    assert "CorruptImage" in outcomes


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_damaged_dicom_files_look_as_pydicom_shows_them_where_both_read_them() -> None:
    pytest.importorskip("pydicom", reason="DICOM files need the extra dicom")
    outcomes = set()
    for name, file in drawn_dicoms(4, 96, 72).items():
        assert compare(file, max_pixels=LIMIT, intact=True) == "decoded DICOM"
        for seed in range(40):
            outcomes.add(compare(mutate(Random(f"{name}:{seed}"), [file]), max_pixels=LIMIT))
    assert {"decoded DICOM", "CorruptImage"} <= outcomes


def test_every_png_with_a_flipped_bit_that_pillow_refuses_is_refused() -> None:
    """Reading EXIF tags makes Pillow load a PNG, and hides that this failed."""
    refused = 0
    for name in ("png-rgb", "png-16", "png-alpha", "png-palette", "png-interlaced", "png-animated"):
        for seed in range(20):
            refused += compare(damage_pixels(Random(seed), LARGE[name]), max_pixels=LIMIT) == "CorruptImage"
    assert refused > 100


def test_a_png_that_ends_early_is_refused() -> None:
    data = FILES["png-rgb"]
    size = struct.unpack(">I", data[data.index(b"IDAT") - 4 :][:4])[0]
    with pytest.raises(CorruptImage):
        decode(data[: data.index(b"IDAT") + 4 + size // 2])
