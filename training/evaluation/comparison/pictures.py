"""Test images for the page: decoded as the model reads them, with or without a heatmap, as JPEG."""

import io
from functools import cached_property
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from models.errors import DermaserveError, ImageError
from models.preprocess import decode
from models.scaling import Color
from training.data.dataset import Row, read_dataset
from training.evaluation.comparison.runs import ComparisonError

MAX_OPACITY = 0.4
"""Opacity of the heatmap's maximum; the lesion must stay visible."""

_QUALITY = 88


class Pictures:
    """The images of a data set, which may have been moved or deleted since the run.

    Args:
        data: the data set's folder.
    """

    def __init__(self, data: Path) -> None:
        self._data = data

    @cached_property
    def _found(self) -> dict[str, Row] | DermaserveError:
        try:
            return {row.image_id: row for row in read_dataset(self._data)}
        except DermaserveError as error:
            return error

    @property
    def rows(self) -> dict[str, Row]:
        """All rows by image_id.

        Raises:
            ComparisonError: the data set is missing or cannot be used.
        """
        if isinstance(self._found, DermaserveError):
            raise ComparisonError(f"the data set cannot be read ({self._found})")
        return self._found

    def row(self, image_id: str) -> Row:
        """Return the metadata of an image.

        Raises:
            ComparisonError: the data set does not contain the image.
        """
        if image_id not in self.rows:
            raise ComparisonError(f"the data set no longer contains image {image_id}")
        return self.rows[image_id]

    def pixels(self, image_id: str, size: tuple[int, int], color: Color) -> np.ndarray:
        """Return an image as uint8 ``[height, width, 3 or 1]``.

        Raises:
            ComparisonError: the image is missing or damaged.
        """
        try:
            data = self.row(image_id).path.read_bytes()
            return decode(data, height=size[0], width=size[1], color=color).pixels
        except (OSError, ImageError) as error:
            raise ComparisonError(f"image {image_id} cannot be read ({error.__class__.__name__})") from error


def jpeg(pixels: np.ndarray) -> bytes:
    """Return uint8 ``[height, width, 3 or 1]`` as a JPEG file, a tenth of the size of a PNG."""
    height, width = pixels.shape[:2]
    buffer = io.BytesIO()
    picture = np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 3)))
    Image.fromarray(picture).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def overlay(pixels: np.ndarray, heatmap: np.ndarray) -> np.ndarray | None:
    """Draw ``heatmap`` over ``pixels`` in the perceptually uniform colour map viridis.

    Args:
        pixels: uint8 ``[height, width, 3 or 1]``.
        heatmap: float ``[h, w]``, not negative. It is scaled by its maximum, so colours of different
            pictures are not comparable.

    Returns:
        uint8 ``[height, width, 3]``, or None if the map is zero everywhere.
    """
    top = float(heatmap.max())
    if not np.isfinite(top) or top <= 0:
        return None
    height, width = pixels.shape[:2]
    small = Image.fromarray((heatmap / top).astype(np.float32))
    heat = np.clip(np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)), 0, 1)
    colors = matplotlib.colormaps["viridis"](heat)[:, :, :3] * 255
    opacity = MAX_OPACITY * heat[:, :, None]
    return np.asarray(np.rint(pixels * (1 - opacity) + colors * opacity), dtype=np.uint8)
