"""``models.quality``: the four measures on images whose values are known."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from models.quality import Quality, measure_quality
from tests.synthetic import draw_lesion


def _lesion(size: int = 96) -> Image.Image:
    return draw_lesion(np.random.default_rng(3), width=size, height=size)


@pytest.mark.parametrize(
    ("level", "clipped"), [(0, 0.0), (128, 0.0), (249, 0.0), (250, 1.0), (255, 1.0)], ids=str
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_uniform_image_has_brightness_only(level: int, clipped: float, channels: int) -> None:
    plain = np.full((20, 30, channels), level, np.uint8)
    assert measure_quality(plain) == Quality(0.0, float(level), 0.0, clipped)


def test_measures_follow_their_definitions() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (31, 40, 3), np.uint8)
    luma = np.floor(pixels.astype(float) @ (np.array([77, 150, 29]) / 256) + 0.5)
    laplacian = [
        luma[y - 1, x] + luma[y + 1, x] + luma[y, x - 1] + luma[y, x + 1] - 4 * luma[y, x]
        for y in range(1, 30)
        for x in range(1, 39)
    ]
    expected = (np.var(laplacian), luma.mean(), luma.std(), (pixels >= 250).all(axis=2).mean())
    np.testing.assert_allclose(measure_quality(pixels), expected, rtol=1e-5)


def test_luma_equals_that_of_pillow() -> None:
    picture = _lesion()
    grey = np.asarray(picture.convert("L"), np.float64)
    assert measure_quality(np.asarray(picture)).brightness == pytest.approx(grey.mean(), abs=0.5)


def test_three_equal_channels_measure_like_one() -> None:
    grey = np.asarray(_lesion().convert("L"))[..., None]
    assert measure_quality(np.repeat(grey, 3, axis=2)) == measure_quality(grey)


def test_blur_lowers_sharpness_and_leaves_brightness() -> None:
    picture = _lesion()
    clean = measure_quality(np.asarray(picture))
    blurred = measure_quality(np.asarray(picture.filter(ImageFilter.GaussianBlur(3))))
    assert blurred.sharpness < 0.2 * clean.sharpness
    assert blurred.brightness == pytest.approx(clean.brightness, abs=2.0)


def test_one_saturated_channel_is_not_over_exposure() -> None:
    red = np.zeros((10, 10, 3), np.uint8)
    red[..., 0] = 255
    assert measure_quality(red).clipped == 0.0


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((2, 10, 3), np.uint8),
        np.zeros((10, 10, 3), np.float32),
    ],
    ids=["no channels", "four channels", "two rows", "floats"],
)
def test_another_shape_or_type_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        measure_quality(pixels)
