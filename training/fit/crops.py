"""Random crops of whole pictures, scaled with antialiasing as the decoder does."""

import io
from typing import Any

import numpy as np
from PIL import Image

from training.recipe import Augmentation


class Crops:
    """Random crops at random positions of pictures, scaled to one size.

    Indexing with an array of indices gives new crops, uint8 ``[n, height, width, C]``. The largest possible
    crop is the largest rectangle of the target's aspect ratio; the decoder crops the same at the centre.
    Crops are cut before they are scaled, so a small crop shows the detail of the original.
    """

    def __init__(
        self, pictures: Any, size: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
    ) -> None:
        """Crop ``pictures``, uint8 ``[N, H, W, C]``, and scale the crops to ``size`` (height, width)."""
        self._pictures, self._size, self._augmentation, self._rng = pictures, size, augmentation, rng

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        crops = [self._crop(picture) for picture in self._pictures[index]]
        return np.stack(crops).reshape(len(crops), *self._size, -1)

    def _crop(self, picture: np.ndarray) -> np.ndarray:
        options, rng, (height, width) = self._augmentation, self._rng, self._size
        rows, columns = picture.shape[:2]
        side = min(rows / height, columns / width) * np.sqrt(rng.uniform(options.min_crop, 1.0))
        crop_width, crop_height = side * width, side * height
        left = rng.uniform(0.0, max(columns - crop_width, 0.0))
        top = rng.uniform(0.0, max(rows - crop_height, 0.0))
        # min(): rounding errors may put the edge beyond the picture, which resize() rejects.
        box = (left, top, min(left + crop_width, columns), min(top + crop_height, rows))
        channels_last = picture if picture.shape[2] == 3 else picture[:, :, 0]
        image = Image.fromarray(channels_last).resize((width, height), Image.Resampling.BICUBIC, box=box)
        scale, quality = rng.uniform(options.min_resolution, 1.0), rng.integers(options.min_quality, 101)
        if scale < 1.0:
            smaller = (max(1, round(scale * width)), max(1, round(scale * height)))
            image = image.resize(smaller, Image.Resampling.BICUBIC).resize(
                (width, height), Image.Resampling.BICUBIC
            )
        if quality < 100:
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=int(quality))
            image = Image.open(stream)
        return np.asarray(image)
