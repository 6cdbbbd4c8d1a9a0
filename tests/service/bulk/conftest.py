"""Folders of images to score in this process, and readers of the rows."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.dicom_files import dicom_file
from tests.synthetic import draw_lesion, encoded


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    monkeypatch.setattr(
        "service.observability.logs.set_up_logs", lambda format_, level: None
    )  # they are pytest's here
    monkeypatch.setenv("DERMASERVE_BUNDLE", str(tiny))
    monkeypatch.setenv("DERMASERVE_DEVICE", "cpu")
    monkeypatch.setenv("DERMASERVE_INTRA_OP_THREADS", "1")


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    rng = np.random.default_rng(3)
    return [
        encoded(draw_lesion(rng, code=code, width=120, height=90), "JPEG")
        for code in ("mel", "nv", "bkl", "df", "vasc", "bcc", "akiec")
    ]


@pytest.fixture
def folder(tmp_path: Path, images: list[bytes]) -> Path:
    """A folder with good and bad files, a subfolder, and a file that is not an image."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for index, data in enumerate(images):
        (folder / f"{index}.jpg").write_bytes(data)
    (folder / "3b.dcm").write_bytes(dicom_file(draw_lesion(np.random.default_rng(1), width=60, height=60)))
    (folder / "4b.jpg").write_bytes(images[0][:500])
    (folder / "5b.png").write_bytes(b"Dear doctor")
    (folder / "6b.jpg").write_bytes(b"")
    (folder / "sub" / "0.png").write_bytes(encoded(Image.new("RGB", (30, 30), "brown"), "PNG"))
    (folder / "notes.txt").write_text("nothing")
    return folder


@pytest.fixture
def many(tmp_path: Path, images: list[bytes]) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(60):
        (folder / f"{index:02}.jpg").write_bytes(images[index % len(images)])
    return folder


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def near(number: str) -> Any:
    return pytest.approx(float(number), abs=1e-6)
