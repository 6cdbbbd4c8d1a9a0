import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import training.fit.checkpoint
import training.fit.loop
from training.fit.batches import batches
from training.fit.checkpoint import State
from training.fit.curves import read_history
from training.fit.loop import predict_logits, train_member
from training.fit.validation import monitored, validation_metrics
from training.network.build import build_network
from training.recipe import (
    Augmentation,
    Block,
    Head,
    MemberRecipe,
    Phase,
    Pretrained,
    Recipe,
    RecipeError,
    ScratchCNN,
)
from training.run import Run


class ArrayRun(Run):
    """A run with random images of three classes, which needs no files except its folder."""

    def labels(self, part: str) -> np.ndarray:
        return np.arange({"train": 24, "validation": 6}[part]) % 3

    def pixels(self, part: str, size: tuple[int, int]) -> np.ndarray:
        rng = np.random.default_rng(len(part))
        shape = (len(self.labels(part)), *size, self.recipe.channels)
        return rng.integers(0, 255, shape, dtype=np.uint8)

    def class_count(self, member: MemberRecipe) -> int:
        return 3


class RedRun(ArrayRun):
    """A run whose images have no blue and little green."""

    def pixels(self, part: str, size: tuple[int, int]) -> np.ndarray:
        return super().pixels(part, size) // np.array([1, 4, 255], dtype=np.uint8)


# It compiles fast.
_TINY = ScratchCNN((Block(4),))


def _recipe(*phases: Phase, backbone: Pretrained | ScratchCNN = _TINY, weights: str = "none") -> Recipe:
    head = Head(dropout=0.0)
    member = MemberRecipe("m", backbone, phases, head=head, starting_weights=weights)
    return Recipe("test", (member,), image_size=32, batch_size=8)


@pytest.fixture
def recipe() -> Recipe:
    return _recipe(Phase("all", epochs=3, learning_rate=1e-2, schedule="plateau"))


def _train(recipe: Recipe, folder: Path) -> keras.Model:
    """Train the only member of ``recipe`` in ``folder``."""
    recipe = replace(recipe, members=(replace(recipe.members[0], name=folder.name),))
    run = ArrayRun(folder.parent, recipe, data=folder, seed=0, cache=folder)
    return train_member(run, recipe.members[0])


def _stop_in_epoch(number: int, recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until epoch ``number`` begins, and interrupt the training there."""
    calls = []

    def power_cut(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == number:
            raise KeyboardInterrupt
        return batches(*arguments)

    monkeypatch.setattr("training.fit.loop.batches", power_cut)
    with pytest.raises(KeyboardInterrupt):
        _train(recipe, folder)
    monkeypatch.undo()


def test_a_stopped_run_resumes_where_it_was(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run stopped after its second epoch and resumed ends with the weights of an uninterrupted one."""
    straight = _train(recipe, tmp_path / "straight")
    _stop_in_epoch(3, recipe, tmp_path / "broken", monkeypatch)
    resumed = _train(recipe, tmp_path / "broken")
    history = (tmp_path / "broken" / "history.csv").read_text().splitlines()
    assert len(history) == 1 + 3
    for ours, theirs in zip(resumed.weights, straight.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)


def test_a_resumed_run_has_the_same_augmentation_and_dropout_as_an_uninterrupted_one(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = replace(recipe.members[0], head=Head(dropout=0.5))
    augmentation = Augmentation(dihedral=True, min_crop=0.5, brightness=0.2)
    recipe = replace(recipe, members=(member,), picture_size=(40, 48), augmentation=augmentation)
    straight = _train(recipe, tmp_path / "straight")
    _stop_in_epoch(3, recipe, tmp_path / "broken", monkeypatch)
    for ours, theirs in zip(_train(recipe, tmp_path / "broken").weights, straight.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)


def test_a_run_resumes_without_the_file_of_its_starting_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "start.weights.h5"
    keras.applications.MobileNetV2(include_top=False, weights=None).save_weights(file)
    phase = Phase("head", epochs=2, learning_rate=1e-2)
    recipe = _recipe(phase, backbone="mobilenet_v2", weights=str(file))
    digest = sha256(file.read_bytes()).hexdigest()
    _stop_in_epoch(2, recipe, tmp_path / "m", monkeypatch)
    file.unlink()
    _train(recipe, tmp_path / "m")
    assert len((tmp_path / "m" / "history.csv").read_text().splitlines()) == 1 + 2
    start = json.loads((tmp_path / "m" / "start.json").read_text())
    assert start == {"starting_weights": file.name, "sha256": digest, "precision": "float32"}


def test_the_best_weights_on_the_disk_are_those_of_the_committed_state(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second epoch was the best so far, but the run stopped before its state was written."""
    commit, calls = training.fit.checkpoint.commit, []

    def power_cut(folder: Path, state: State) -> None:
        calls.append(state.best_weights)
        if len(calls) == 2:
            raise KeyboardInterrupt
        commit(folder, state)

    monkeypatch.setattr("training.fit.loop.commit", power_cut)
    with pytest.raises(KeyboardInterrupt):
        _train(recipe, tmp_path / "m")
    committed = training.fit.checkpoint.read_state(tmp_path / "m")
    assert (committed.epoch, committed.best_weights) == (1, calls[0])
    network = build_network(recipe.members[0], 3, size=(32, 32))
    network.load_weights(tmp_path / "m" / committed.best_weights)
    images = ArrayRun(tmp_path, recipe, data=tmp_path, seed=0, cache=tmp_path).pixels("validation", (32, 32))
    shift = np.zeros(3)
    found = validation_metrics(predict_logits(network, images, 8), np.arange(6) % 3, shift, shift)
    assert found["loss"] == pytest.approx(committed.best, abs=1e-4)


def test_a_cosine_phase_runs_all_epochs_without_improvement(tmp_path: Path) -> None:
    hopeless = Phase("head", epochs=6, learning_rate=1e-12, schedule="cosine", stop_patience=1)
    _train(_recipe(hopeless), tmp_path / "m")
    assert len((tmp_path / "m" / "history.csv").read_text().splitlines()) == 1 + 6


def test_a_plateau_reduces_the_rate_to_its_minimum_and_no_further(tmp_path: Path) -> None:
    hopeless = Phase(
        "all", epochs=4, learning_rate=1e-10, plateau_patience=1, plateau_factor=0.1, min_learning_rate=5e-12
    )
    recipe = replace(_recipe(hopeless), monitor="accuracy")
    _train(recipe, tmp_path / "m")
    rates = [epoch["learning_rate"] for epoch in read_history(tmp_path / "m" / "history.csv")]
    assert rates == pytest.approx([1e-10, 1e-10, 1e-11, 5e-12], rel=1e-3)


def test_a_recipe_may_choose_its_epoch_by_accuracy() -> None:
    better, worse = ({"loss": loss, "accuracy": accuracy} for loss, accuracy in ((0.9, 0.8), (0.5, 0.7)))
    by_loss, by_accuracy = _recipe(), replace(_recipe(), monitor="accuracy")
    assert monitored(by_accuracy, better) < monitored(by_accuracy, worse)
    assert monitored(by_loss, better) > monitored(by_loss, worse)


def test_a_run_stopped_while_it_saves_resumes(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of the second epoch were written, but its state was not, so the epoch is repeated."""
    straight = _train(recipe, tmp_path / "straight")
    commit, calls = training.fit.checkpoint.commit, []

    def power_cut(folder: Path, state: State) -> None:
        calls.append(state.epoch)
        if len(calls) == 2:
            raise KeyboardInterrupt
        commit(folder, state)

    monkeypatch.setattr("training.fit.loop.commit", power_cut)
    with pytest.raises(KeyboardInterrupt):
        _train(recipe, tmp_path / "broken")
    monkeypatch.undo()
    resumed = _train(recipe, tmp_path / "broken")
    assert len((tmp_path / "broken" / "history.csv").read_text().splitlines()) == 1 + 3
    for ours, theirs in zip(resumed.weights, straight.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)


def test_a_phase_without_improvement_leaves_the_weights_unchanged(tmp_path: Path) -> None:
    good = Phase("head", epochs=2, learning_rate=1e-2, schedule="constant")
    ruin = Phase("head", epochs=1, learning_rate=100.0, schedule="constant")
    networks = []
    for name, phases in (("good", (good,)), ("ruined", (good, ruin))):
        networks.append(_train(_recipe(*phases), tmp_path / name))
    for kept, before in zip(networks[1].weights, networks[0].weights, strict=True):
        np.testing.assert_array_equal(kept.numpy(), before.numpy())


def test_a_finished_network_is_loaded_as_it_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras gives EfficientNet an additional layer with ImageNet's weights, which must be kept."""

    def no_download(*_: object, **__: object) -> str:
        file = tmp_path / "random.weights.h5"
        keras.applications.EfficientNetB1(include_top=False, weights=None).save_weights(file)
        return str(file)

    monkeypatch.setattr("keras.src.applications.efficientnet.file_utils.get_file", no_download)
    phase = Phase("head", epochs=1, learning_rate=1e-2)
    imagenet = _recipe(phase, backbone="efficientnet_b1", weights="imagenet")
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3)).astype(np.float32)
    trained = _train(imagenet, tmp_path / "run").predict_on_batch(images)
    monkeypatch.undo()  # from here on a download would fail
    again = _train(imagenet, tmp_path / "run").predict_on_batch(images)
    np.testing.assert_allclose(again, trained, rtol=1e-5)


def test_a_trained_head_differs_and_a_frozen_backbone_does_not(tmp_path: Path) -> None:
    recipe = _recipe(Phase("head", epochs=1, learning_rate=1e-2), backbone="mobilenet_v2")
    keras.utils.set_random_seed(0)
    fresh = build_network(recipe.members[0], 3, size=(32, 32))
    trained = _train(recipe, tmp_path / "m")
    for before, after in zip(fresh.weights, trained.weights, strict=True):
        unchanged = np.array_equal(before.numpy(), after.numpy())
        assert unchanged == ("logits" not in before.path), before.path


def test_early_stopping_ends_a_phase_without_improvement(recipe: Recipe, tmp_path: Path) -> None:
    hopeless = Phase("head", epochs=50, learning_rate=1e-12, schedule="constant", stop_patience=2)
    _train(_recipe(hopeless), tmp_path / "m")
    assert len((tmp_path / "m" / "history.csv").read_text().splitlines()) < 10


def test_the_training_loss_is_the_mean_over_the_epochs_images() -> None:
    """With a learning rate of zero, the expected loss can be computed from the unchanged model."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    rng = np.random.default_rng(0)
    drawn = [(rng.normal(size=(n, 4)), rng.normal(size=(n, 1))) for n in (8, 8, 3)]
    x, y = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    expected = np.mean((model.predict_on_batch(x) - y) ** 2)
    loss, waited = training.fit.loop._train_batches(model, drawn, 3, None)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert waited >= 0


def test_the_saved_network_has_the_moving_average_of_the_weights(tmp_path: Path) -> None:
    """After one step, the average keeps the recipe's share, but at most 2 / 11, of the initial weights."""
    phase = Phase("head", epochs=1, learning_rate=1e-1, schedule="constant")
    recipe = replace(_recipe(phase), batch_size=24)
    member = recipe.members[0]
    keras.utils.set_random_seed(0)
    start = build_network(member, 3, size=(32, 32)).get_layer("logits").get_weights()[0]
    steps = {}
    for ema in (0.0, 0.1, 0.9):
        network = _train(replace(recipe, ema=ema), tmp_path / f"{ema}")
        steps[ema] = network.get_layer("logits").get_weights()[0] - start
    np.testing.assert_allclose(steps[0.1], 0.9 * steps[0.0], atol=1e-6)
    np.testing.assert_allclose(steps[0.9], 9 / 11 * steps[0.0], atol=1e-6)
    assert np.abs(steps[0.0]).max() > 0.05


def test_an_averaged_run_resumes_where_it_was(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    averaged = replace(recipe, ema=0.5)
    straight = _train(averaged, tmp_path / "straight")
    _stop_in_epoch(3, averaged, tmp_path / "broken", monkeypatch)
    for ours, theirs in zip(_train(averaged, tmp_path / "broken").weights, straight.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)


def test_a_network_trained_in_mixed_precision_is_saved_in_float32(tmp_path: Path) -> None:
    recipe = _recipe(Phase("head", epochs=1, learning_rate=1e-2), backbone="mobilenet_v2")
    run = ArrayRun(tmp_path, recipe, data=tmp_path, seed=0, cache=tmp_path)
    network = train_member(run, recipe.members[0], precision="mixed_bfloat16")
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    images = run.pixels("validation", (32, 32))
    found = predict_logits(network, images, 4)
    assert np.isfinite(found).all()
    assert np.ptp(found) > 0


def test_a_flattened_head_refuses_phases_of_another_size(tmp_path: Path) -> None:
    phase = Phase("head", epochs=1, learning_rate=1e-2, image_size=48)
    recipe = _recipe(phase)
    member = replace(recipe.members[0], head=Head(pooling="flatten"))
    with pytest.raises(RecipeError, match=r"its head is flattened, so every phase needs .*\(32, 32\)"):
        _train(replace(recipe, members=(member,)), tmp_path / "m")


def test_z_scored_pixels_have_mean_zero_and_deviation_one(tmp_path: Path) -> None:
    recipe = _recipe(Phase("head", epochs=1, learning_rate=1e-3))
    member = replace(recipe.members[0], scaling="z_score")
    run = RedRun(tmp_path, replace(recipe, members=(member,)), data=tmp_path, seed=0, cache=tmp_path)
    network = train_member(run, member)
    images = run.pixels("train", (32, 32)).astype(np.float32)
    scaled = np.asarray(network.get_layer("scale")(images))
    assert scaled.mean() == pytest.approx(0, abs=1e-3)
    assert scaled.std() == pytest.approx(1, abs=1e-3)
    # One mean and one deviation for all channels keep the colour.
    red, green, _ = scaled.mean(axis=(0, 1, 2))
    assert red > green + 0.5


def test_a_members_image_size_may_not_exceed_the_models() -> None:
    member = MemberRecipe("m", "mobilenet_v2", (), image_size=48)
    with pytest.raises(RecipeError, match=r"image_size of m must be from 1 to the model's, 32, got 48"):
        Recipe("test", (member,), image_size=32)
