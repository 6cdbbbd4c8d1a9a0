"""``training.calibration.image_quality``: the limits pass good images and flag degraded ones."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from models.manifest.safeguards import QualityLimits
from models.quality import measure_quality
from tests.synthetic import draw_lesion
from training.calibration.image_quality import fit_quality_limits, measure_images


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    codes = ("nv", "bkl", "mel", "akiec")
    return [draw_lesion(np.random.default_rng(i), code=codes[i % 4], width=64, height=64) for i in range(60)]


@pytest.fixture(scope="module")
def limits(pictures: list[Image.Image]) -> dict[str, float]:
    return fit_quality_limits(measure_images(_pixels(pictures)), quantile=0.98)


def _pixels(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(picture) for picture in pictures])


def _flagged_shares(measured: np.ndarray, limits: Mapping[str, float]) -> dict[str, float]:
    """Return the share of images outside each limit, and under ``"any"`` outside at least one."""
    sharpness, brightness, contrast, clipped = measured.T
    outside = {
        "sharpness_min": sharpness < limits["sharpness_min"],
        "brightness_min": brightness < limits["brightness_min"],
        "brightness_max": brightness > limits["brightness_max"],
        "contrast_min": contrast < limits["contrast_min"],
        "clipped_max": clipped > limits["clipped_max"],
    }
    outside["any"] = np.any(list(outside.values()), axis=0)
    return {name: float(flagged.mean()) for name, flagged in outside.items()}


def test_each_image_is_measured_as_the_service_measures_it(pictures: list[Image.Image]) -> None:
    measured = measure_images(_pixels(pictures))
    assert measured.shape == (60, 4)
    assert tuple(measured[7]) == measure_quality(np.asarray(pictures[7]))


def test_few_good_images_are_flagged(pictures: list[Image.Image], limits: dict[str, float]) -> None:
    shares = _flagged_shares(measure_images(_pixels(pictures)), limits)
    assert 0 < shares["any"] <= 8 / 60  # two images outside each of four limits
    assert all(share <= 0.04 for name, share in shares.items() if name != "any")


@pytest.mark.parametrize(
    ("limit", "degrade"),
    [
        ("sharpness_min", lambda picture: picture.filter(ImageFilter.GaussianBlur(2))),
        ("brightness_min", lambda picture: ImageEnhance.Brightness(picture).enhance(0.4)),
        ("brightness_max", lambda picture: ImageEnhance.Brightness(picture).enhance(1.8)),
        ("clipped_max", lambda picture: ImageEnhance.Brightness(picture).enhance(1.8)),
        ("contrast_min", lambda picture: ImageEnhance.Contrast(picture).enhance(0.1)),
    ],
    ids=["blurred", "dark", "bright", "burnt out", "flat"],
)
def test_a_degraded_image_exceeds_its_limit(
    pictures: list[Image.Image],
    limits: dict[str, float],
    limit: str,
    degrade: Callable[[Image.Image], Image.Image],
) -> None:
    assert _flagged_shares(measure_images(_pixels([degrade(p) for p in pictures])), limits)[limit] > 0.9


def test_limits_are_quantiles_and_fit_the_manifest() -> None:
    steps = np.linspace(0, 1, 401)
    measured = np.column_stack([100 * steps, 255 * steps, 80 * steps, 0 * steps])
    found = QualityLimits(**fit_quality_limits(measured, quantile=0.9975))
    assert found.sharpness_min == pytest.approx(0.25)
    assert found.brightness_max == pytest.approx(255 * 0.9975)
    assert found.clipped_max == 0.01  # no training image has a white pixel, but highlights are allowed


def test_grey_images_are_measured_as_well() -> None:
    assert measure_images(np.zeros((3, 8, 8, 1), np.uint8)).tolist() == [[0.0] * 4] * 3
