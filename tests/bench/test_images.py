import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.images import drawn_jpeg, prepare_images, read_images, real_originals
from tests.synthetic import draw_lesion


def test_a_drawn_lesion_has_the_size_and_about_the_bytes_of_a_real_one() -> None:
    data = drawn_jpeg(np.random.default_rng(1))
    assert Image.open(io.BytesIO(data)).size == (600, 450)
    assert 60_000 < len(data) < 400_000


def test_real_originals_are_taken_where_they_are_and_enlarged_to_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DERMASERVE_HAM10000", raising=False)
    assert real_originals() == []
    original = tmp_path / "originals" / "ISIC_1.jpg"
    original.parent.mkdir()
    draw_lesion(np.random.default_rng(1)).save(original, quality=95)
    monkeypatch.setenv("DERMASERVE_HAM10000", str(tmp_path))
    folders = prepare_images(tmp_path / "made")
    assert read_images(folders["600x450"]) == [original.read_bytes()]
    photo = folders["12mp"] / "00.jpg"
    assert [*folders["12mp"].iterdir()] == [photo]
    with Image.open(photo) as image:
        assert (image.format, image.size) == ("JPEG", (4000, 3000))
    assert 3e6 < photo.stat().st_size < 5e6
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    assert prepare_images(tmp_path / "made") == folders
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")} == before


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected JPEG files"):
        read_images(tmp_path)
