import numpy as np
import pytest
from PIL import Image

from models.preprocess import decode
from tests.synthetic import encoded
from training.fit.crops import Crops
from training.recipe import Augmentation, MemberRecipe, Recipe, RecipeError


def _crops(pictures: np.ndarray, augmentation: Augmentation, side: int = 16, seed: int = 0) -> Crops:
    return Crops(pictures, (side, side), augmentation, np.random.default_rng(seed))


def _gradient(rows: int, columns: int) -> np.ndarray:
    """Return a picture whose red encodes the column and whose green encodes the row."""
    red = np.broadcast_to(np.linspace(0, 255, columns), (rows, columns))
    green = np.broadcast_to(np.linspace(0, 255, rows)[:, None], (rows, columns))
    return np.stack([red, green, np.zeros((rows, columns))], axis=2).astype(np.uint8)


def test_crops_reach_every_part_of_the_picture_not_only_its_centre() -> None:
    pictures = np.repeat(_gradient(60, 120)[None], 200, axis=0)
    crops = _crops(pictures, Augmentation(min_crop=0.4))[np.arange(200)]
    assert crops.shape == (200, 16, 16, 3)
    assert crops.dtype == np.uint8
    red = crops[..., 0].reshape(200, -1)
    assert red.min() < 15
    assert red.max() > 240
    widths = red.max(axis=1).astype(int) - red.min(axis=1)
    # Of 120 columns a whole square takes 60, half of the range; the smallest crop sqrt(0.4) of that.
    assert widths.max() < 0.52 * 255
    assert widths.min() == pytest.approx(0.5 * 0.4**0.5 * 255, rel=0.15)


def test_a_crop_of_the_whole_picture_equals_the_decoders_result() -> None:
    picture = _gradient(96, 96) // 2 + np.random.default_rng(0).integers(0, 99, (96, 96, 3), dtype=np.uint8)
    decoded = decode(encoded(Image.fromarray(picture), "PNG"), height=32, width=32).pixels
    crop = _crops(picture[None], Augmentation(), 32)[np.array([0])][0]
    assert np.abs(crop.astype(int) - decoded).max() <= 2


def test_equal_seeds_give_equal_crops_and_different_seeds_different_ones() -> None:
    pictures = np.repeat(_gradient(40, 60)[None], 4, axis=0)
    places = np.arange(4)
    first = _crops(pictures, Augmentation(min_crop=0.5))[places]
    np.testing.assert_array_equal(_crops(pictures, Augmentation(min_crop=0.5))[places], first)
    assert (_crops(pictures, Augmentation(min_crop=0.5), seed=1)[places] != first).any()


@pytest.mark.parametrize("augmentation", [Augmentation(min_resolution=0.3), Augmentation(min_quality=20)])
def test_lower_resolution_and_quality_remove_detail_and_keep_the_mean(augmentation: Augmentation) -> None:
    rng = np.random.default_rng(0)
    pictures = np.repeat(rng.integers(0, 255, (1, 32, 32, 3), dtype=np.uint8), 16, axis=0)
    plain, lossy = (
        _crops(pictures, Augmentation(), 32)[np.arange(16)],
        _crops(pictures, augmentation, 32)[np.arange(16)],
    )
    assert np.abs(plain.astype(float) - lossy).mean() > 3
    assert plain.mean() == pytest.approx(lossy.mean(), abs=2)


def test_grey_pictures_keep_their_one_channel() -> None:
    pictures = _gradient(40, 60)[None, :, :, :1]
    assert _crops(pictures, Augmentation(min_crop=0.5, min_quality=50))[np.array([0])].shape == (1, 16, 16, 1)


def test_changes_of_crops_require_a_picture_size() -> None:
    augmentation = Augmentation(min_quality=50)
    with pytest.raises(RecipeError, match="min_resolution and min_quality need picture_size"):
        Recipe("test", (MemberRecipe("m", "mobilenet_v2", ()),), augmentation=augmentation)
