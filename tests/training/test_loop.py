from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import training.loop
from training.augment import Augment
from training.batches import batches
from training.loop import State, train_member
from training.networks import build_network
from training.recipe import Augmentation, MemberRecipe, Phase, Recipe

_STILL = Augmentation(dihedral=False, min_crop=1.0, brightness=0.0, contrast=0.0, color=0.0)


@pytest.fixture
def recipe() -> Recipe:
    phases = (Phase("head", epochs=3, learning_rate=1e-2, schedule="plateau"),)
    member = MemberRecipe("m", "mobilenet_v2", 1.0, phases, dropout=0.0, starting_weights="none")
    return Recipe("test", (member,), image_size=32, batch_size=8, augmentation=_STILL)


def _train(recipe: Recipe, folder: Path) -> keras.Model:
    rng = np.random.default_rng(0)
    labels = {"train": np.arange(24) % 3, "validation": np.arange(6) % 3}
    images = {part: rng.integers(0, 255, (len(y), 32, 32, 3), dtype=np.uint8) for part, y in labels.items()}
    return train_member(recipe, recipe.members[0], lambda part, size: images[part], labels, 3, folder, seed=0)


def test_a_stopped_run_resumes_where_it_was(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after its second epoch and resumed, a run ends with the weights of an unbroken one."""
    straight = _train(recipe, tmp_path / "straight")
    drawn = []

    def power_cut(*arguments: Any) -> Any:
        drawn.append(arguments)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return batches(*arguments)

    monkeypatch.setattr("training.loop.batches", power_cut)
    with pytest.raises(KeyboardInterrupt):
        _train(recipe, tmp_path / "broken")
    monkeypatch.undo()
    resumed = _train(recipe, tmp_path / "broken")
    history = (tmp_path / "broken" / "history.csv").read_text().splitlines()
    assert len(history) == 1 + 3
    for ours, theirs in zip(resumed.weights, straight.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)


def test_a_run_stopped_while_it_saves_resumes_too(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of the second epoch are on the disk, but its state is not: the epoch is done again, once."""
    straight = _train(recipe, tmp_path / "straight")
    commit, calls = training.loop._commit, []

    def power_cut(folder: Path, state: State) -> None:
        calls.append(state.epoch)
        if len(calls) == 2:
            raise KeyboardInterrupt
        commit(folder, state)

    monkeypatch.setattr("training.loop._commit", power_cut)
    with pytest.raises(KeyboardInterrupt):
        _train(recipe, tmp_path / "broken")
    monkeypatch.undo()
    resumed = _train(recipe, tmp_path / "broken")
    assert len((tmp_path / "broken" / "history.csv").read_text().splitlines()) == 1 + 3
    for ours, theirs in zip(resumed.weights, straight.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)


def test_a_phase_that_only_makes_it_worse_leaves_the_weights_as_they_were(tmp_path: Path) -> None:
    good = Phase("head", epochs=2, learning_rate=1e-2, schedule="constant")
    ruin = Phase("head", epochs=1, learning_rate=100.0, schedule="constant")
    networks = []
    for name, phases in (("good", (good,)), ("ruined", (good, ruin))):
        member = MemberRecipe("m", "mobilenet_v2", 1.0, phases, dropout=0.0, starting_weights="none")
        recipe = Recipe("test", (member,), image_size=32, batch_size=8, augmentation=_STILL)
        networks.append(_train(recipe, tmp_path / name))
    for kept, before in zip(networks[1].weights, networks[0].weights, strict=True):
        np.testing.assert_array_equal(kept.numpy(), before.numpy())


def test_a_finished_network_is_read_back_as_it_was_built(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras gives EfficientNet one layer more where it downloads ImageNet's weights; it must stay."""

    def no_download(*_: object, **__: object) -> str:
        file = tmp_path / "random.weights.h5"
        keras.applications.EfficientNetB1(include_top=False, weights=None).save_weights(file)
        return str(file)

    monkeypatch.setattr("keras.src.applications.efficientnet.file_utils.get_file", no_download)
    phases = (Phase("head", epochs=1, learning_rate=1e-2),)
    member = MemberRecipe("m", "efficientnet_b1", 1.0, phases, starting_weights="imagenet")
    imagenet = replace(recipe, members=(member,))
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3)).astype(np.float32)
    trained = _train(imagenet, tmp_path / "run").predict_on_batch(images)
    monkeypatch.undo()  # from here on a download would fail
    again = _train(imagenet, tmp_path / "run").predict_on_batch(images)
    np.testing.assert_allclose(again, trained, rtol=1e-5)


def test_a_trained_head_differs_and_a_frozen_backbone_does_not(recipe: Recipe, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    fresh = build_network(recipe.members[0], 3)
    trained = _train(recipe, tmp_path)
    for before, after in zip(fresh.weights, trained.weights, strict=True):
        unchanged = np.array_equal(before.numpy(), after.numpy())
        assert unchanged == ("logits" not in before.path), before.path


def test_early_stopping_ends_a_phase_without_gain(recipe: Recipe, tmp_path: Path) -> None:
    hopeless = Phase("head", epochs=50, learning_rate=1e-12, schedule="constant", stop_patience=2)
    member = MemberRecipe("m", "mobilenet_v2", 1.0, (hopeless,), dropout=0.0, starting_weights="none")
    _train(Recipe("test", (member,), image_size=32, batch_size=8, augmentation=_STILL), tmp_path)
    assert len((tmp_path / "history.csv").read_text().splitlines()) < 10


def test_augmentation_is_off_outside_training_and_when_every_change_is_zero() -> None:
    images = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3), dtype=np.uint8)
    layer = Augment(Augmentation(), seed=0)
    np.testing.assert_array_equal(layer(images, training=False), images)
    np.testing.assert_allclose(Augment(_STILL, seed=0)(images, training=True), images, atol=1e-3)


def test_augmentation_without_crop_only_turns_and_mirrors() -> None:
    """Every output is one of the eight symmetries of its input, and several of them turn up."""
    image = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    symmetries = [np.rot90(m, k) for m in (image, image[:, ::-1]) for k in range(4)]
    options = Augmentation(min_crop=1.0, brightness=0.0, contrast=0.0, color=0.0)
    outputs = np.asarray(Augment(options, seed=0)(np.repeat(image[None], 32, axis=0), training=True))
    seen = set()
    for output in outputs:
        errors = [np.abs(output - symmetry).max() for symmetry in symmetries]
        assert min(errors) < 1.0
        seen.add(int(np.argmin(errors)))
    assert seen == set(range(8))


def test_augmented_images_keep_range_and_differ_from_each_other() -> None:
    image = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), dtype=np.uint8)
    options = Augmentation(min_crop=0.5, rotation=20, stretch=0.2, brightness=0.5, contrast=0.5, color=0.2)
    outputs = np.asarray(Augment(options, seed=1)(np.repeat(image, 8, axis=0), training=True))
    assert outputs.min() >= 0
    assert outputs.max() <= 255
    assert all(np.abs(a - b).mean() > 1 for i, a in enumerate(outputs) for b in outputs[:i])


def test_the_training_loss_is_the_mean_over_the_epochs_images() -> None:
    """With a learning rate of zero every batch's loss can be worked out beside it."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    rng = np.random.default_rng(0)
    drawn = [(rng.normal(size=(n, 4)), rng.normal(size=(n, 1))) for n in (8, 8, 3)]
    x, y = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    expected = np.mean((model.predict_on_batch(x) - y) ** 2)
    assert training.loop._one_epoch(model, drawn, 3) == pytest.approx(expected, rel=1e-5)
