"""``encode_png``: Pillow reads what was written."""

import io

import numpy as np
import pytest
from PIL import Image

from service.inference.png import encode_png, largest_png


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (9, 1, 3), (192, 224, 3)])
def test_a_decoder_reads_the_encoded_pixels(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for image in (pixels, np.full(shape, 255, np.uint8), np.broadcast_to(pixels[..., :1], shape)):
        found = Image.open(io.BytesIO(encode_png(image)))
        found.verify()  # the checksums
        found = Image.open(io.BytesIO(encode_png(image)))
        assert (found.format, found.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(found), image)
        assert len(encode_png(image)) <= largest_png(*shape[:2])


def test_a_smooth_image_is_compressed() -> None:
    rows, columns = np.mgrid[0:200, 0:200]
    picture = np.stack([rows, columns, 255 - rows], axis=-1).astype(np.uint8)
    assert len(encode_png(picture)) < picture.size / 3
