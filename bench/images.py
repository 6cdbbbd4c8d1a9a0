"""The images that everything is measured with: two folders of JPEG files.

``600x450``: the originals of HAM10000 where the environment variable DERMASERVE_HAM10000 names a folder
that has some, else synthetic lesions of that size. ``12mp``: 4000 x 3000, enlarged from those, with the
grain of a small sensor added so that a file has 3 to 5 MB, as a photograph has; no real photograph.
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ("600x450", "12mp")

_WIDTH, _HEIGHT = 600, 450
_LARGE = (4000, 3000)
_SYNTHETIC, _PHOTOS = 16, 6  # files
_GRAIN, _PHOTO_QUALITY = 6.0, 92


def real_originals() -> list[Path]:
    """Full-size JPEG files of HAM10000, by name; none where the data is not there."""
    folder = os.environ.get("DERMASERVE_HAM10000")
    return sorted(Path(folder, "originals").glob("*.jpg")) if folder else []


def prepare_images(folder: Path) -> dict[str, Path]:
    """Make both folders below ``folder``, unless they are there; returns them by size."""
    originals = real_originals()
    kind = "real" if originals else "synthetic"
    folders = {size: folder / f"{size}-{kind}" for size in SIZES}
    if not all(path.is_dir() for path in folders.values()):
        rng = np.random.default_rng(1)
        small = [path.read_bytes() for path in originals] or [draw_lesion(rng) for _ in range(_SYNTHETIC)]
        _write(folders["600x450"], small)
        _write(folders["12mp"], [enlarge(rng, data) for data in small[:_PHOTOS]])
    return folders


def read_images(folder: Path) -> list[bytes]:
    """The files' bytes, by name.

    Raises:
        FileNotFoundError: there is none.
    """
    images = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    if not images:
        raise FileNotFoundError(f"{folder}: expected JPEG files (*.jpg), found none")
    return images


def draw_lesion(rng: np.random.Generator) -> bytes:
    """A dark, uneven ellipse on skin as JPEG, 600 x 450, of about the size that a real one has."""
    rows, columns = np.mgrid[0:_HEIGHT, 0:_WIDTH]
    y, x = (rows / _HEIGHT - 0.5) / rng.uniform(0.2, 0.35), (columns / _WIDTH - 0.5) / rng.uniform(0.15, 0.3)
    inside = 1 / (1 + np.exp(8 * (np.hypot(x, y) - 1 + 0.2 * _smooth_noise(rng, 7))))[..., None]
    skin = np.array([228, 182, 160]) + 7 * _smooth_noise(rng, 9)[..., None]
    lesion = np.array([110, 65, 40]) * (1 + 0.15 * _smooth_noise(rng, 40)[..., None])
    picture = skin * (1 - inside) + lesion * inside + rng.normal(0, 5, (_HEIGHT, _WIDTH, 3))
    return _jpeg(picture, quality=95)


def enlarge(rng: np.random.Generator, data: bytes) -> bytes:
    """An image file as a JPEG of 4000 x 3000 pixels with grain."""
    with Image.open(io.BytesIO(data)) as image:
        picture = np.asarray(image.convert("RGB").resize(_LARGE, Image.Resampling.BICUBIC))
    grain = _GRAIN * rng.standard_normal((*picture.shape[:2], 1), dtype=np.float32)
    return _jpeg(picture + grain, quality=_PHOTO_QUALITY)


def _smooth_noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """``[450, 600]``, about -2..2, with ``cells`` features along a side."""
    coarse = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC), np.float64)


def _jpeg(picture: np.ndarray, *, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _write(folder: Path, images: Sequence[bytes]) -> None:
    """All or nothing: an interrupted run leaves no half a folder."""
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(images):
        (part / f"{index:02}.jpg").write_bytes(data)
    if not folder.exists():
        part.rename(folder)
