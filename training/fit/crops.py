"""Random crops of whole pictures, cut and scaled as the decoder cuts and scales: with antialiasing."""

import io
from typing import Any

import numpy as np
from PIL import Image

from training.recipe import Augmentation


class Crops:
    """Random square crops of pictures, anywhere in them, scaled to one size.

    Indexing with places gives uint8 ``[n, height, width, C]``, drawn anew each time. A crop of area 1 is
    the largest rectangle of the target's aspect ratio, which is what the decoder cuts from the centre.
    Pictures are cropped before they are scaled, so a small crop shows the detail of the original.
    """

    def __init__(
        self, pictures: Any, size: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
    ) -> None:
        """Crop ``pictures``, which give uint8 ``[n, H, W, C]``, to ``size``, height and width in pixels."""
        self._pictures, self._size, self._augmentation, self._rng = pictures, size, augmentation, rng

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        crops = [self._crop(picture) for picture in self._pictures[places]]
        return np.stack(crops).reshape(len(crops), *self._size, -1)

    def _crop(self, picture: np.ndarray) -> np.ndarray:
        options, rng, (height, width) = self._augmentation, self._rng, self._size
        rows, columns = picture.shape[:2]
        side = min(rows / height, columns / width) * np.sqrt(rng.uniform(options.min_crop, 1.0))
        crop_width, crop_height = side * width, side * height
        left = rng.uniform(0.0, max(columns - crop_width, 0.0))
        top = rng.uniform(0.0, max(rows - crop_height, 0.0))
        # Rounding may carry the sum a hair past the edge, which resize() refuses.
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
