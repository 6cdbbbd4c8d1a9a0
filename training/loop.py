"""The training loop of one member. It reads from top to bottom and uses nothing but Keras 3.

Everything between epochs — learning rate, early stopping, best weights, history, checkpoint — is plain
code here, so that a stopped run goes on from its last finished epoch. Draws are the same then as in
an unbroken run; augmentation and dropout start their random streams anew.
"""

import csv
import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.errors import DermaserveError
from training.augment import Augment
from training.batches import batches, class_weights, draws_per_epoch, log_prior_shift
from training.networks import build_network, set_trainable
from training.recipe import Augmentation, MemberRecipe, Phase, Recipe
from training.run import write_json

NETWORK = "network.keras"
BEST = "best.weights.h5"
_HISTORY = (
    "phase",
    "epoch",
    "seconds",
    "learning_rate",
    "train_loss",
    "loss",
    "accuracy",
    "balanced_accuracy",
)


class TrainingError(DermaserveError):
    """Training cannot go on; the message says where it stands."""


@dataclass
class State:
    """Where a run stands. ``state.json`` holds it, and writing that is what ends an epoch."""

    phase: int = 0
    epoch: int = 0  # epochs of this phase that are done
    best: float = math.inf  # of the monitored figure, signed so that smaller is better
    since_best: int = 0
    since_drop: int = 0
    rate_factor: float = 1.0
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def weights(self) -> str:
        """File with network and optimizer as they were at this state."""
        return f"last-{self.phase}-{self.epoch}.weights.h5"

    @property
    def average(self) -> str:
        """File with the averaged network as it was at this state; only where the recipe averages."""
        return f"average-last-{self.phase}-{self.epoch}.weights.h5"


def train_member(
    recipe: Recipe,
    member: MemberRecipe,
    pixels: Any,
    labels: dict[str, np.ndarray],
    classes: int,
    folder: Path,
    seed: int,
) -> keras.Model:
    """Train ``member`` in ``folder``, resuming what is there, and return it with its best weights.

    Args:
        recipe, member: what to train.
        pixels: ``pixels(part, size)`` gives uint8 ``[N, size, size, 3]`` for train and validation.
        labels: int ``[N]`` for "train" and "validation".
        classes: number of classes K.
        folder: receives ``history.csv``, ``network.keras`` at the end, and what a resume needs.
        seed: of initialisation, draws and augmentation.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    if (folder / NETWORK).is_file():
        return keras.saving.load_model(folder / NETWORK)
    folder.mkdir(parents=True, exist_ok=True)
    state = _read_state(folder)
    keras.utils.set_random_seed(seed)
    network = build_network(member, classes)
    shift = log_prior_shift(labels["train"], recipe, classes)
    for index, phase in enumerate(member.phases):
        if index < state.phase:
            continue
        size = phase.image_size or recipe.image_size
        train_pixels, valid_pixels = pixels("train", size), pixels("validation", size)
        if index > 0:
            network.load_weights(folder / BEST)  # each phase starts from the best of the one before
        # Compiling anew makes Keras read the changed `trainable` and gives a fresh optimizer.
        set_trainable(network, phase)
        augmentation = member.augmentation or recipe.augmentation
        trainer = _compile(recipe, phase, network, augmentation, size, labels["train"], classes, seed + index)
        # What is validated and kept: the moving average of the weights where the recipe has one.
        kept = build_network(member, classes) if recipe.ema else network
        if state.epoch > 0:
            trainer.load_weights(folder / state.weights)
            if recipe.ema:
                kept.load_weights(folder / state.average)
        elif index > 0:  # this phase's epochs have to beat what it began with, at its own size
            logits = predict_logits(network, valid_pixels, recipe.batch_size) - shift
            state.best = _monitored(recipe, _validate(logits, labels["validation"], classes))
        if recipe.ema and state.epoch == 0:
            kept.set_weights(network.get_weights())
        while state.epoch < phase.epochs and state.since_best < phase.stop_patience:
            started = time.monotonic()
            if phase.schedule != "cosine":
                trainer.optimizer.learning_rate = phase.learning_rate * state.rate_factor
            epoch_id = 1000 * index + state.epoch
            drawn = batches(train_pixels, labels["train"], recipe, classes, seed, epoch_id)
            average = partial(_average, network, kept, recipe.ema) if recipe.ema else None
            train_loss = _one_epoch(trainer, drawn, _steps(recipe, labels["train"]), average)
            logits = predict_logits(kept, valid_pixels, recipe.batch_size) - shift
            figures = _validate(logits, labels["validation"], classes) | {
                "phase": index,
                "epoch": state.epoch,
                "seconds": time.monotonic() - started,
                "learning_rate": float(keras.ops.convert_to_tensor(trainer.optimizer.learning_rate)),
                "train_loss": train_loss,
            }
            state.epoch += 1
            state.history.append(figures)
            state.since_best, state.since_drop = state.since_best + 1, state.since_drop + 1
            if _monitored(recipe, figures) < state.best:
                state.best, state.since_best, state.since_drop = _monitored(recipe, figures), 0, 0
                _save_weights(kept, folder / BEST)
            if phase.schedule == "plateau" and state.since_drop >= phase.plateau_patience:
                state.rate_factor, state.since_drop = state.rate_factor * phase.plateau_factor, 0
            _save_weights(trainer, folder / state.weights)
            if recipe.ema:
                _save_weights(kept, folder / state.average)
            _commit(folder, state)
            _print_progress(member, phase, index, state, figures)
        state = State(phase=index + 1, history=state.history)
        _commit(folder, state)
    network.load_weights(folder / BEST)
    part = folder / "part.keras"
    network.save(part)
    part.replace(folder / NETWORK)
    return network


def predict_logits(network: keras.Model, pixels: np.ndarray, batch_size: int) -> np.ndarray:
    """Logits float64 ``[N, K]`` of uint8 images ``[N, H, W, C]``."""
    parts = [
        keras.ops.convert_to_numpy(
            network.predict_on_batch(pixels[start : start + batch_size].astype(np.float32))
        )
        for start in range(0, len(pixels), batch_size)
    ]
    return np.concatenate(parts).astype(np.float64)


def _compile(
    recipe: Recipe,
    phase: Phase,
    network: keras.Model,
    augmentation: Augmentation,
    size: int,
    labels: np.ndarray,
    classes: int,
    seed: int,
) -> keras.Model:
    trainer = keras.Sequential(
        [keras.Input((size, size, 3), dtype="uint8"), Augment(augmentation, seed), network]
    )
    rate: Any = phase.learning_rate
    if phase.schedule == "cosine":
        steps = phase.epochs * _steps(recipe, labels)
        warmup = max(1, int(phase.warmup * steps))
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, steps - warmup, alpha=0.01, warmup_target=phase.learning_rate, warmup_steps=warmup
        )
    trainer.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, global_clipnorm=1.0),
        loss=keras.losses.CategoricalFocalCrossentropy(
            alpha=class_weights(labels, recipe, classes).tolist(), gamma=recipe.focal_gamma, from_logits=True
        ),
        # XLA makes TensorFlow's CPU training about seven times slower (measured), and JAX needs it.
        jit_compile=keras.backend.backend() == "jax",
    )
    # Built now: state can only be loaded into an optimizer that has its variables.
    trainer.optimizer.build(network.trainable_variables)
    return trainer


def _validate(logits: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, float]:
    """Cross entropy, accuracy and balanced accuracy at the training data's prevalence."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    hits = logits.argmax(axis=1) == labels
    recalls = [hits[labels == code].mean() for code in range(classes) if (labels == code).any()]
    return {
        "loss": float(-log_p[np.arange(len(labels)), labels].mean()),
        "accuracy": float(hits.mean()),
        "balanced_accuracy": float(np.mean(recalls)),
    }


def _one_epoch(
    trainer: keras.Model, drawn: Iterable[Any], steps: int, after_step: Callable[[], None] | None
) -> float:
    """Train on every batch and return the mean loss; a progress bar where a person watches.

    Batch by batch rather than through ``fit``: for any Python source of data that goes through
    TensorFlow's generator data set, which makes the allocator return its memory after every step;
    on two cores the share of time spent in the kernel was 31 % with it and 13 % without (seen once).
    """
    bar = keras.utils.Progbar(steps, stateful_metrics=["loss"]) if sys.stderr.isatty() else None
    total, count = 0.0, 0
    for step, (images, targets) in enumerate(drawn, start=1):
        loss = float(trainer.train_on_batch(images, targets))
        if not np.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at step {step}; try a lower learning rate")
        total, count = total + loss * len(images), count + len(images)
        if after_step:
            after_step()
        if bar:
            bar.update(step, [("loss", total / count)])
    return total / count


def _average(network: keras.Model, average: keras.Model, keep: float) -> None:
    """Move ``average`` towards ``network``: a ← keep·a + (1 - keep)·w, batch statistics included."""
    for mean, weight in zip(average.weights, network.weights, strict=True):
        mean.assign(keep * mean + (1.0 - keep) * weight)


def _monitored(recipe: Recipe, figures: dict[str, float]) -> float:
    """The figure that picks the best epoch, signed so that smaller is better."""
    return figures["loss"] if recipe.monitor == "loss" else -figures["balanced_accuracy"]


def _steps(recipe: Recipe, labels: np.ndarray) -> int:
    """Training steps of one epoch."""
    return -(-draws_per_epoch(len(labels), recipe) // recipe.batch_size)


def _save_weights(model: keras.Model, path: Path) -> None:
    """Save a model's weights, and its optimizer's if it has one, whole or not at all."""
    part = path.with_name(f"part-{path.name}")
    model.save_weights(part)
    part.replace(path)


def _read_state(folder: Path) -> State:
    file = folder / "state.json"
    return State(**json.loads(file.read_text())) if file.is_file() else State()


def _commit(folder: Path, state: State) -> None:
    """Make ``state`` the one to resume from; history and clean-up follow from it."""
    write_json(folder / "state.json", asdict(state))
    with (folder / "history.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, _HISTORY)
        writer.writeheader()
        writer.writerows(state.history)
    for weights in folder.glob("*last-*.weights.h5"):
        if weights.name not in (state.weights, state.average):
            weights.unlink()


def _print_progress(
    member: MemberRecipe, phase: Phase, index: int, state: State, figures: dict[str, float]
) -> None:
    best = " *" if state.since_best == 0 else ""
    print(
        f"{member.name} phase {index + 1}/{len(member.phases)} epoch {state.epoch}/{phase.epochs} "
        f"{figures['seconds']:.0f} s  train loss {figures['train_loss']:.4f}  validation loss "
        f"{figures['loss']:.4f} accuracy {figures['accuracy']:.3f} "
        f"balanced {figures['balanced_accuracy']:.3f}{best}",
        flush=True,
    )
