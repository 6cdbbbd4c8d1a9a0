import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.synthetic_dataset import write_dataset
from training.data.dataset import DataError, Row, read_dataset
from training.data.pixels import load_pixels


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    return read_dataset(write_dataset(tmp_path / "data", lesions=1))


def test_images_are_decoded_once(rows: list[Row], tmp_path: Path) -> None:
    first = load_pixels(rows, height=24, width=32, cache=tmp_path / "cache")
    assert first.shape == (len(rows), 24, 32, 3)
    assert first.dtype == np.uint8
    [file] = (tmp_path / "cache").iterdir()
    written = file.stat().st_mtime_ns
    assert (load_pixels(rows, height=24, width=32, cache=tmp_path / "cache") == first).all()
    assert file.stat().st_mtime_ns == written


def test_a_changed_image_is_decoded_again(rows: list[Row], tmp_path: Path) -> None:
    before = load_pixels(rows, height=24, width=24, cache=tmp_path / "cache").copy()
    Image.new("RGB", (90, 90), "blue").save(rows[2].path)
    after = load_pixels(rows, height=24, width=24, cache=tmp_path / "cache")
    assert [index for index in range(len(rows)) if (before[index] != after[index]).any()] == [2]


def test_an_image_that_cannot_be_decoded_is_named_and_leaves_no_partial_file(
    rows: list[Row], tmp_path: Path
) -> None:
    rows[3].path.write_bytes(b"no image")
    with pytest.raises(DataError, match=rows[3].image_id):
        load_pixels(rows, height=24, width=24, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_full_disk_is_reported_before_anything_is_written(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    needed = len(rows) * 24 * 24 * 3
    with pytest.raises(DataError, match=f"cache: the decoded images need {needed:,} bytes, 1,000 are free"):
        load_pixels(rows, height=24, width=24, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_disk_that_fills_up_leaves_no_partial_file(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match="No space left on device"):
        load_pixels(rows, height=24, width=24, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
