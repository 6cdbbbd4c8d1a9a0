"""The images of every measurement: two folders of JPEG files.

``600x450``: the originals of HAM10000 in the folder that DERMASERVE_HAM10000 names, or drawn lesions of
that size. ``12mp``: the same images enlarged to 4000 x 3000, with the grain of a small sensor, so that a
file has the 3 to 5 MB of a photograph.
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.synthetic import draw_lesion, encoded

SIZES = ("600x450", "12mp")

_LARGE = (4000, 3000)
_DRAWN, _PHOTOS = 16, 6  # files
_GRAIN = 6.0  # standard deviation, of 255 levels


def real_originals() -> list[Path]:
    """Full-size JPEG files of HAM10000, by name; an empty list without the data set."""
    folder = os.environ.get("DERMASERVE_HAM10000")
    return sorted(Path(folder, "originals").glob("*.jpg")) if folder else []


def prepare_images(folder: Path) -> dict[str, Path]:
    """Make both folders below ``folder`` unless they exist, and return them by size."""
    originals = real_originals()
    kind = "real" if originals else "synthetic"
    folders = {size: folder / f"{size}-{kind}" for size in SIZES}
    if not all(path.is_dir() for path in folders.values()):
        rng = np.random.default_rng(1)
        small = [path.read_bytes() for path in originals] or [drawn_jpeg(rng) for _ in range(_DRAWN)]
        _write(folders["600x450"], small)
        _write(folders["12mp"], [_enlarge(rng, data) for data in small[:_PHOTOS]])
    return folders


def read_images(folder: Path) -> list[bytes]:
    """The files' bytes, by name.

    Raises:
        FileNotFoundError: the folder holds no JPEG file.
    """
    images = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    if not images:
        raise FileNotFoundError(f"{folder}: expected JPEG files (*.jpg), found none")
    return images


def drawn_jpeg(rng: np.random.Generator) -> bytes:
    """A drawn lesion as JPEG, 600 x 450, of about as many bytes as a real image."""
    return encoded(draw_lesion(rng), "JPEG", quality=98)


def _enlarge(rng: np.random.Generator, data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        picture = np.asarray(image.convert("RGB").resize(_LARGE, Image.Resampling.BICUBIC))
    grain = _GRAIN * rng.standard_normal((*picture.shape[:2], 1), dtype=np.float32)
    return encoded(Image.fromarray(np.clip(picture + grain, 0, 255).astype(np.uint8)), "JPEG", quality=92)


def _write(folder: Path, images: Sequence[bytes]) -> None:
    """Write all images or none: an interrupted run leaves no incomplete folder."""
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(images):
        (part / f"{index:02}.jpg").write_bytes(data)
    if not folder.exists():
        part.rename(folder)
