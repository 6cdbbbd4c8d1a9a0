import numpy as np
import pytest

from training.fit.augment import Augment
from training.recipe import Augmentation


def test_augmentation_is_off_outside_training_and_when_every_change_is_zero() -> None:
    images = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3), dtype=np.uint8)
    layer = Augment(Augmentation(dihedral=True, brightness=0.5), seed=0)
    np.testing.assert_array_equal(layer(images, training=False), images)
    np.testing.assert_array_equal(Augment(Augmentation(), seed=0)(images, training=True), images)


def test_dihedral_augmentation_only_rotates_and_mirrors() -> None:
    """Every output is one of the eight symmetries of its input, and several of them occur."""
    image = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    symmetries = [np.rot90(m, k) for m in (image, image[:, ::-1]) for k in range(4)]
    options = Augmentation(dihedral=True)
    outputs = np.asarray(Augment(options, seed=0)(np.repeat(image[None], 32, axis=0), training=True))
    seen = set()
    for output in outputs:
        errors = [np.abs(output - symmetry).max() for symmetry in symmetries]
        assert min(errors) < 1.0
        seen.add(int(np.argmin(errors)))
    assert seen == set(range(8))


def test_flips_mirror_and_do_not_rotate() -> None:
    image = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    mirrored = [image, image[:, ::-1], image[::-1], image[::-1, ::-1]]
    outputs = np.asarray(
        Augment(Augmentation(flips=True), seed=0)(np.repeat(image[None], 32, axis=0), training=True)
    )
    errors = np.array([[np.abs(output - m).max() for m in mirrored] for output in outputs])
    assert errors.min(axis=1).max() < 1.0
    assert set(errors.argmin(axis=1).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("options", [Augmentation(zoom=0.3), Augmentation(shift=0.2), Augmentation(shear=20)])
def test_zoom_shift_and_shear_move_pixels_and_leave_a_flat_image_flat(options: Augmentation) -> None:
    rng = np.random.default_rng(0)
    layer = Augment(options, seed=0)
    image = rng.integers(0, 255, (4, 24, 32, 3), dtype=np.uint8)
    assert np.abs(np.asarray(layer(image, training=True)) - image).mean() > 5
    flat = np.full((4, 24, 32, 3), 90, np.uint8)
    np.testing.assert_allclose(np.asarray(layer(flat, training=True)), flat, atol=1e-2)


def test_augmented_images_keep_range_and_differ_from_each_other() -> None:
    image = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), dtype=np.uint8)
    options = Augmentation(
        dihedral=True, min_crop=0.5, rotation=20, stretch=0.2, brightness=0.5, contrast=0.5, color=0.2
    )
    outputs = np.asarray(Augment(options, seed=1)(np.repeat(image, 8, axis=0), training=True))
    assert outputs.min() >= 0
    assert outputs.max() <= 255
    assert all(np.abs(a - b).mean() > 1 for i, a in enumerate(outputs) for b in outputs[:i])


def test_hue_and_saturation_keep_grey_and_the_mean_of_the_channels() -> None:
    rng = np.random.default_rng(0)
    layer = Augment(Augmentation(hue=30.0, saturation=0.5), seed=0)
    grey = np.repeat(rng.integers(0, 255, (4, 16, 16, 1), dtype=np.uint8), 3, axis=3)
    np.testing.assert_allclose(np.asarray(layer(grey, training=True)), grey, atol=0.01)
    colored = rng.integers(100, 150, (4, 16, 16, 3), dtype=np.uint8)  # far from black and white
    changed = np.asarray(layer(colored, training=True))
    np.testing.assert_allclose(changed.mean(axis=3), colored.mean(axis=3), atol=0.01)
    assert np.abs(changed - colored).mean() > 1


def test_saturation_changes_the_distance_from_grey_by_up_to_its_share() -> None:
    red = np.broadcast_to(np.array([200, 100, 100], np.uint8), (256, 2, 2, 3))
    changed = np.asarray(Augment(Augmentation(saturation=0.5), seed=0)(red, training=True))[:, 0, 0]
    spread = changed[:, 0] - changed[:, 1]
    assert spread.min() == pytest.approx(50, abs=3)
    assert spread.max() == pytest.approx(150, abs=3)


def test_hue_rotates_a_colour_by_at_most_its_limit() -> None:
    red = np.broadcast_to(np.array([180, 90, 90], np.uint8), (256, 2, 2, 3))
    changed = np.asarray(Augment(Augmentation(hue=20.0), seed=0)(red, training=True))[:, 0, 0]
    angles = np.degrees(
        np.arctan2(
            np.sqrt(3) * (changed[:, 1] - changed[:, 2]), 2 * changed[:, 0] - changed[:, 1] - changed[:, 2]
        )
    )
    assert angles.min() == pytest.approx(-20, abs=1)
    assert angles.max() == pytest.approx(20, abs=1)
