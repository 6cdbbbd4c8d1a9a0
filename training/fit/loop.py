"""The training loop of one member. It reads from top to bottom and uses nothing but Keras 3.

Everything between epochs — learning rate, early stopping, best weights, history, checkpoint — is plain
code here, so that a stopped run goes on from its last finished epoch. Seed and epoch decide the draws
and the random streams of augmentation and dropout, so a resumed run ends as an unbroken one.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from models.errors import DermaserveError
from training.fit.batches import Subset, batches, log_prior_shift, prefetch
from training.fit.checkpoint import State, commit, read_state
from training.fit.crops import Crops
from training.fit.devices import device_count
from training.fit.trainer import compile_trainer, reestimate_batch_norm, reseed, steps_per_epoch
from training.network.build import build_network, fixed_size, set_trainable
from training.recipe import MemberRecipe, Phase, Recipe, RecipeError
from training.run import Run

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]

NETWORK = "network.keras"
_STATISTICS_STEPS = 100
"""Batches that batch normalisation's statistics are estimated from once the weights are averaged."""


class TrainingError(DermaserveError):
    """Training cannot go on; the message says where it stands."""


def train_member(run: Run, member: MemberRecipe, *, precision: Precision = "float32") -> keras.Model:
    """Train ``member`` of ``run`` in its folder, resuming what is there, and return it at its best.

    Leaves ``history.csv``, ``network.keras`` at the end (always in float32), and what a resume needs.

    Args:
        run: the run.
        member: one of its recipe's.
        precision: Keras' dtype policy for the training; validation uses it as well.

    Raises:
        TrainingError: the loss is no longer finite.
        RecipeError: the starting weights do not fit, or a phase has a size that the network cannot take.
    """
    recipe, folder = run.recipe, run.folder / member.name
    if (folder / NETWORK).is_file():
        return keras.saving.load_model(folder / NETWORK)
    _check_sizes(recipe, member)
    folder.mkdir(parents=True, exist_ok=True)
    state = read_state(folder)
    if not state.history:
        run.note_member(member, precision)
    elif member.starting_weights != "imagenet":  # that builds another network, and Keras has a copy
        # The weights are in the folder by now; the file that they began from may be gone.
        member = replace(member, starting_weights="none")
    chosen = {part: run.chosen(member, part) for part in ("train", "validation")}
    labels = {part: run.member_labels(member, part) for part in chosen}
    classes = run.class_count(member)
    build = partial(
        build_network,
        member,
        classes,
        size=recipe.member_size(member),
        channels=recipe.channels,
        statistics=_statistics(run) if member.scaling == "z_score" else None,
    )
    keras.utils.set_random_seed(run.seed)
    keras.config.set_dtype_policy(precision)
    network = build()
    shift = log_prior_shift(labels["train"], recipe, classes)
    log_prior = np.log(np.maximum(np.bincount(labels["train"], minlength=classes), 1) / len(labels["train"]))
    for index, phase in enumerate(member.phases):
        if index < state.phase:
            continue
        size = recipe.phase_size(member, phase)
        pixels = {
            "train": Subset(run.pixels("train", recipe.picture_size or size), chosen["train"]),
            "validation": Subset(run.pixels("validation", size), chosen["validation"]),
        }
        draw = partial(_drawn, run, member, size, labels["train"], pixels["train"])
        validate = partial(
            _validate, recipe, pixels["validation"], labels["validation"], classes, shift, log_prior
        )
        if index > 0:  # each phase starts from the best of those before
            network.load_weights(folder / state.best_weights)
        # Compiling anew makes Keras read the changed `trainable` and gives a fresh optimizer.
        set_trainable(network, phase)
        trainer = compile_trainer(recipe, member, phase, network, labels["train"], classes, run.seed + index)
        # What is validated and kept: the moving average of the weights where the recipe has one.
        kept = build() if recipe.ema else network
        if state.epoch > 0:
            trainer.load_weights(folder / state.weights)
            if recipe.ema:
                kept.load_weights(folder / state.average)
        else:
            if recipe.ema:
                kept.set_weights(network.get_weights())
            if index > 0:  # this phase's epochs have to beat what it began with, at its own size
                state.best = _monitored(recipe, validate(network))
        after_step = partial(_average, trainer, network, kept, recipe.ema) if recipe.ema else None
        whole = phase.schedule == "cosine"  # it gains most in its last epochs
        while state.epoch < phase.epochs and (whole or state.since_best < phase.stop_patience):
            started = time.monotonic()
            if phase.schedule != "cosine":
                trainer.optimizer.learning_rate = phase.learning_rate * state.rate_factor
            epoch_id = 1000 * index + state.epoch
            reseed(trainer, run.seed, epoch_id)
            steps = steps_per_epoch(recipe, labels["train"])
            train_loss, waited = _one_epoch(trainer, draw(epoch_id), steps, after_step)
            validating = time.monotonic()
            figures = validate(kept) | {
                "phase": index,
                "epoch": state.epoch,
                "seconds": time.monotonic() - started,
                "validation_seconds": time.monotonic() - validating,
                "input_wait": waited,
                "learning_rate": float(keras.ops.convert_to_tensor(trainer.optimizer.learning_rate)),
                "train_loss": train_loss,
            }
            state.epoch += 1
            state.history.append(figures)
            state.since_best, state.since_drop = state.since_best + 1, state.since_drop + 1
            if _monitored(recipe, figures) < state.best:
                state.best, state.since_best, state.since_drop = _monitored(recipe, figures), 0, 0
                state.best_weights = f"best-{index}-{state.epoch}.weights.h5"
                _save_weights(kept, folder / state.best_weights)
            if phase.schedule == "plateau" and state.since_drop >= phase.plateau_patience:
                state.rate_factor, state.since_drop = state.rate_factor * phase.plateau_factor, 0
            _save_weights(trainer, folder / state.weights)
            if recipe.ema:
                _save_weights(kept, folder / state.average)
            commit(folder, state)
            _print_progress(member, phase, index, state, figures)
        if recipe.ema and phase.trainable != "head":
            network.load_weights(folder / state.best_weights)
            reseed(trainer, run.seed, 1000 * index + phase.epochs)
            reestimate_batch_norm(trainer, islice(draw(1000 * index + phase.epochs), _STATISTICS_STEPS))
            figures = validate(network)
            print(f"{member.name} statistics estimated anew: {recipe.monitor} {figures[recipe.monitor]:.4f}")
            if _monitored(recipe, figures) < state.best:
                state.best_weights = f"best-{index}-statistics.weights.h5"
                _save_weights(network, folder / state.best_weights)
        state = State(phase=index + 1, history=state.history, best_weights=state.best_weights)
        commit(folder, state)
    keras.config.set_dtype_policy("float32")
    network = build()
    network.load_weights(folder / state.best_weights)
    if member.image_size:
        trained, network = network, build(resize=True)
        network.set_weights(trained.get_weights())
    part = folder / "part.keras"
    network.save(part)
    part.replace(folder / NETWORK)
    return network


def predict_logits(network: keras.Model, pixels: Any, batch_size: int) -> np.ndarray:
    """Logits float64 ``[N, K]`` of uint8 images ``[N, H, W, C]``."""
    parts = []
    for start in range(0, len(pixels), batch_size):
        images = pixels[start : start + batch_size].astype(np.float32)
        missing = batch_size - len(images)
        # Batches of one size: nothing is compiled twice, and several devices can share each.
        full = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
        logits = keras.ops.convert_to_numpy(network.predict_on_batch(full))
        parts.append(logits[: len(images)].astype(np.float64))
    return np.concatenate(parts)


def _validate(
    recipe: Recipe,
    pixels: Any,
    labels: np.ndarray,
    classes: int,
    shift: np.ndarray,
    log_prior: np.ndarray,
    network: keras.Model,
) -> dict[str, float]:
    """Cross entropy, accuracy and balanced accuracy at the training data's prevalence, and the macro loss.

    The macro loss is the mean over the classes of the cross entropy at equal prevalence, so that a class
    counts however rare it is; two thirds of the plain one are naevi. Both are those at the temperature
    that suits the network best. Every network gets its temperature after training; one that ranks better
    must not lose to one that is less sure of itself.
    """
    logits = predict_logits(network, pixels, recipe.batch_size)
    counts = np.bincount(labels, minlength=classes)
    weights = 1.0 / (np.count_nonzero(counts) * counts[labels])
    loss, temperature = _best_cross_entropy(logits, labels, shift, np.full(len(labels), 1 / len(labels)))
    macro_loss, _ = _best_cross_entropy(logits, labels, shift + log_prior, weights)
    hits = (logits / temperature - shift).argmax(axis=1) == labels
    recalls = [hits[labels == code].mean() for code in range(classes) if (labels == code).any()]
    return {
        "loss": loss,
        "macro_loss": macro_loss,
        "accuracy": float(hits.mean()),
        "balanced_accuracy": float(np.mean(recalls)),
    }


def _best_cross_entropy(
    logits: np.ndarray, labels: np.ndarray, shift: np.ndarray, weights: np.ndarray
) -> tuple[float, float]:
    """The smallest cross entropy over all temperatures, weighted by image, and its temperature."""

    def cross_entropy(log_temperature: float) -> float:
        log_p = log_softmax(logits / np.exp(log_temperature) - shift, axis=1)
        return float(-(weights * log_p[np.arange(len(labels)), labels]).sum())

    fitted = minimize_scalar(cross_entropy, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(fitted.fun), float(np.exp(fitted.x))


def _drawn(
    run: Run, member: MemberRecipe, size: tuple[int, int], labels: np.ndarray, pixels: Any, epoch_id: int
) -> Iterator[Any]:
    """The batches of one epoch; crops are cut where the recipe cuts them from whole pictures."""
    recipe = run.recipe
    if recipe.picture_size:
        rng = np.random.default_rng([run.seed, epoch_id, 1])
        pixels = Crops(pixels, size, member.augmentation or recipe.augmentation, rng)
    return batches(pixels, labels, recipe, run.class_count(member), run.seed, epoch_id, device_count())


def _statistics(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the training pixels, float64 ``[C]``."""
    pixels = run.pixels("train", run.recipe.size)
    total, squares = np.zeros(run.recipe.channels), np.zeros(run.recipe.channels)
    for start in range(0, len(pixels), 256):
        chunk = pixels[start : start + 256].astype(np.float64)
        total += chunk.mean(axis=(1, 2)).sum(axis=0)
        squares += (chunk**2).mean(axis=(1, 2)).sum(axis=0)
    mean = total / len(pixels)
    return mean, squares / len(pixels) - mean**2


def _check_sizes(recipe: Recipe, member: MemberRecipe) -> None:
    reason = fixed_size(member)
    for phase in member.phases:
        size, needed = recipe.phase_size(member, phase), recipe.member_size(member)
        if reason and size != needed:
            raise RecipeError(f"{member.name}: {reason}, so every phase needs images of {needed}, got {size}")


def _one_epoch(
    trainer: keras.Model, drawn: Iterable[Any], steps: int, after_step: Callable[[], None] | None
) -> tuple[float, float]:
    """Train on every batch; the mean loss, and the seconds spent waiting for batches.

    Batch by batch rather than through ``fit``: for any Python source of data that goes through
    TensorFlow's generator data set, which makes the allocator return its memory after every step;
    on two cores the share of time spent in the kernel was 31 % with it and 13 % without (seen once).
    """
    # A progress bar where a person watches.
    bar = keras.utils.Progbar(steps, stateful_metrics=["loss"]) if sys.stderr.isatty() else None
    total, count, waited = 0.0, 0, 0.0
    source = prefetch(drawn)
    for step in range(1, steps + 1):
        started = time.monotonic()
        images, targets = next(source)
        waited += time.monotonic() - started
        loss = float(trainer.train_on_batch(images, targets))
        if not np.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at step {step}; try a lower learning rate")
        total, count = total + loss * len(images), count + len(images)
        if after_step:
            after_step()
        if bar:
            bar.update(step, [("loss", total / count)])
    return total / count, waited


def _average(trainer: keras.Model, network: keras.Model, average: keras.Model, keep: float) -> None:
    """Move ``average`` towards ``network``: a ← keep·a + (1 - keep)·w, batch statistics included.

    Early in a phase the average is short, or it would be made of the weights from before the phase: after n
    steps at most (1 + n) / (10 + n) of it is kept, as in TensorFlow's ``ExponentialMovingAverage``.
    """
    steps = int(trainer.optimizer.iterations)
    keep = min(keep, (1 + steps) / (10 + steps))
    for mean, weight in zip(average.weights, network.weights, strict=True):
        mean.assign(keep * mean + (1.0 - keep) * weight)


def _monitored(recipe: Recipe, figures: dict[str, float]) -> float:
    """The figure that picks the best epoch, signed so that smaller is better."""
    figure = figures[recipe.monitor]
    return -figure if recipe.monitor == "balanced_accuracy" else figure


def _save_weights(model: keras.Model, path: Path) -> None:
    """Save a model's weights, and its optimizer's if it has one, whole or not at all."""
    part = path.with_name(f"part-{path.name}")
    model.save_weights(part)
    part.replace(path)


def _print_progress(
    member: MemberRecipe, phase: Phase, index: int, state: State, figures: dict[str, float]
) -> None:
    best = " *" if state.since_best == 0 else ""
    print(
        f"{member.name} phase {index + 1}/{len(member.phases)} epoch {state.epoch}/{phase.epochs} "
        f"{figures['seconds']:.0f} s  train loss {figures['train_loss']:.4f}  validation loss "
        f"{figures['loss']:.4f} macro {figures['macro_loss']:.4f} accuracy {figures['accuracy']:.3f} "
        f"balanced {figures['balanced_accuracy']:.3f}{best}",
        flush=True,
    )
