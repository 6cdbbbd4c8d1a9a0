from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tests.synthetic import draw_lesion
from training.data.dataset import CODES, Row
from training.data.near_duplicates import SIZE, near_duplicates
from training.data.pixels import read_thumbnails

Transpose = Image.Transpose


def _row(folder: Path, number: int, picture: Image.Image, *, lesion: str = "", age: float = 50.0) -> Row:
    path = folder / f"{number:04d}.jpg"
    picture.save(path, quality=85)
    return Row(path.stem, lesion or f"L{number}", "nv", "histo", age, "male", "back", path)


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Sixty different lesions of all classes, each of a different patient."""
    folder, rng = tmp_path_factory.mktemp("lesions"), np.random.default_rng(0)
    codes = cycle(CODES)
    return [
        _row(folder, n, draw_lesion(rng, code=next(codes), width=240, height=180), age=float(n))
        for n in range(60)
    ]


def _found(rows: list[Row]) -> list[tuple[str, str]]:
    pairs = near_duplicates(rows, read_thumbnails(rows, SIZE))
    return [(pair.first.image_id, pair.second.image_id) for pair in pairs]


def _cropped(picture: Image.Image) -> Image.Image:
    return picture.crop((10, 4, 230, 169)).resize((240, 180))


def _tinted(picture: Image.Image) -> Image.Image:
    red, green, blue = ImageEnhance.Contrast(picture).enhance(1.2).split()
    return Image.merge("RGB", (red.point(lambda v: v * 0.9), green, blue.point(lambda v: v * 0.8)))


def test_different_lesions_are_not_near_duplicates(lesions: list[Row]) -> None:
    assert _found(lesions) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: picture.resize((160, 120)),
        _cropped,
        _tinted,
        lambda picture: picture.transpose(Transpose.FLIP_LEFT_RIGHT),
        lambda picture: picture.transpose(Transpose.ROTATE_180),
        lambda picture: _cropped(picture).transpose(Transpose.TRANSPOSE),
    ],
    ids=["smaller", "cropped", "tinted", "mirrored", "turned", "cropped_and_transposed"],
)
def test_one_picture_under_two_lesions_is_found(
    lesions: list[Row], tmp_path: Path, change: Callable[[Image.Image], Image.Image]
) -> None:
    rows = list(lesions)
    for number in (3, 24, 41):  # different patients' data, so that likeness alone must tell
        with Image.open(lesions[number].path) as picture:
            rows.append(_row(tmp_path, 1000 + number, change(picture.convert("RGB"))))
    assert sorted(_found(rows)) == [("0003", "1003"), ("0024", "1024"), ("0041", "1041")]


def test_mirror_images_are_marked_as_mirrored(lesions: list[Row], tmp_path: Path) -> None:
    with Image.open(lesions[5].path) as picture:
        mirrored = _row(tmp_path, 1005, picture.transpose(Transpose.FLIP_LEFT_RIGHT))
        turned = _row(tmp_path, 1006, picture.transpose(Transpose.ROTATE_90), lesion="L1005")
    rows = [*lesions, mirrored, turned]
    pairs = near_duplicates(rows, read_thumbnails(rows, SIZE))
    assert [(pair.second.image_id, pair.mirrored) for pair in pairs] in (
        [("1005", True), ("1006", False)],
        [("1006", False), ("1005", True)],
    )
    assert all(pair.similarity > 0.9 for pair in pairs)


def test_images_of_one_lesion_are_not_a_pair(lesions: list[Row], tmp_path: Path) -> None:
    with Image.open(lesions[7].path) as picture:
        again = _row(tmp_path, 1007, picture, lesion=lesions[7].lesion_id)
    assert _found([*lesions, again]) == []


def test_a_slightly_rotated_photograph_is_found(lesions: list[Row], tmp_path: Path) -> None:
    with Image.open(lesions[18].path) as picture:
        turned = picture.rotate(6, Image.Resampling.BICUBIC)
    again = _row(tmp_path, 1018, _cropped(turned), age=18.0)
    assert _found([*lesions, again]) == [("0018", "1018")]


def test_images_without_structure_match_nothing(lesions: list[Row], tmp_path: Path) -> None:
    plain = [_row(tmp_path, 1100 + n, Image.new("RGB", (240, 180), (200, 150, 130))) for n in range(3)]
    assert _found([*lesions, *plain]) == []


def test_the_known_pairs_of_the_published_data_are_found(ham10000: Path) -> None:
    from training.data.dataset import read_dataset

    known = {"ISIC_0025226", "ISIC_0030074", "ISIC_0027636", "ISIC_0027994", "ISIC_0033421", "ISIC_0033481"}
    rows = [row for row in read_dataset(ham10000) if row.image_id in known or row.image_id < "ISIC_0024500"]
    found = _found(rows)
    assert ("ISIC_0025226", "ISIC_0030074") in found
    assert ("ISIC_0027636", "ISIC_0027994") in found
    assert ("ISIC_0033421", "ISIC_0033481") in found
