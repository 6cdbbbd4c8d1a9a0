"""``draw_overlay``: marks what is hot, hides nothing, survives maps of nothing."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.inference.overlay import MAX_OPACITY, draw_overlay


def opened(png: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.mode) == ("PNG", "RGB")
    return np.asarray(image)


PIXELS = np.random.default_rng(0).integers(0, 255, (100, 125, 3), dtype=np.uint8)


def test_only_the_high_part_of_the_heatmap_is_coloured() -> None:
    heatmap = np.zeros((7, 7), np.float32)
    heatmap[:, 0] = 3.0
    overlay = draw_overlay(PIXELS, heatmap)
    assert not overlay.empty
    found = opened(overlay.png)
    np.testing.assert_array_equal(found[:, 60:], PIXELS[:, 60:])
    yellow = np.array([253, 231, 37])  # the hot end of viridis
    expected = PIXELS[:, 0] * (1 - MAX_OPACITY) + yellow * MAX_OPACITY
    assert abs(found[:, 0] - expected).max() <= 1


def test_a_zero_heatmap_gives_the_plain_image_and_is_empty() -> None:
    overlay = draw_overlay(PIXELS, np.zeros((7, 7), np.float32))
    assert overlay.empty
    np.testing.assert_array_equal(opened(overlay.png), PIXELS)


def test_a_heatmap_of_nan_gives_the_plain_image() -> None:
    assert draw_overlay(PIXELS, np.full((7, 7), np.nan, np.float32)).empty


def test_grey_pixels_are_shown_as_grey() -> None:
    grey = PIXELS[..., :1]
    found = opened(draw_overlay(grey, np.zeros((7, 7), np.float32)).png)
    np.testing.assert_array_equal(found, np.repeat(grey, 3, axis=2))


def test_the_scale_of_a_heatmap_does_not_matter() -> None:
    heatmap = np.random.default_rng(1).random((7, 7)).astype(np.float32)
    assert draw_overlay(PIXELS, heatmap).png == draw_overlay(PIXELS, heatmap * 1024).png
