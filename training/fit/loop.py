"""The training loop of one member, written with Keras 3 only.

Everything between epochs is plain code here: learning rate, early stopping, best weights, history and
checkpoint. A stopped run therefore continues after its last finished epoch. Seed and epoch determine the
drawn images and the random numbers of augmentation and dropout, so a resumed run gives the same result as an
uninterrupted one.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from models.errors import DermaserveError
from training.fit.batches import Subset, batches, log_prior_shift, prefetch
from training.fit.checkpoint import State, commit, read_state
from training.fit.crops import Crops
from training.fit.devices import device_count
from training.fit.trainer import (
    compile_trainer,
    reestimate_batch_norm,
    reseed,
    steps_per_epoch,
    update_average,
)
from training.fit.validation import monitored, validation_metrics
from training.network.build import build_network, fixed_size, set_trainable
from training.recipe import MemberRecipe, Recipe, RecipeError
from training.run import Run

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]

NETWORK = "network.keras"
_STATISTICS_STEPS = 100
"""Number of batches from which the statistics of batch normalisation are estimated for averaged weights."""


class TrainingError(DermaserveError):
    """Training cannot continue; the message names the step."""


def train_member(run: Run, member: MemberRecipe, *, precision: Precision = "float32") -> keras.Model:
    """Train ``member``, or continue its training, and return its best network in float32.

    Writes to the member's folder: ``history.csv``, ``start.json``, checkpoints, and finally
    ``network.keras``. If ``network.keras`` exists, it is loaded and nothing is trained.

    Args:
        run: the run.
        member: a member of the run's recipe.
        precision: Keras dtype policy for training and validation.

    Raises:
        TrainingError: the loss is not finite.
        RecipeError: the starting weights do not fit, or the network cannot take the image size of a phase.
    """
    folder = run.folder / member.name
    if (folder / NETWORK).is_file():
        return keras.saving.load_model(folder / NETWORK)
    _check_sizes(run.recipe, member)
    folder.mkdir(parents=True, exist_ok=True)
    state = read_state(folder)
    if not state.history:
        run.note_member(member, precision)
    elif member.starting_weights != "imagenet":  # with ImageNet's weights, Keras builds another network
        # The checkpoint holds the weights, and the file of the starting weights may be gone.
        member = replace(member, starting_weights="none")
    keras.utils.set_random_seed(run.seed)
    keras.config.set_dtype_policy(precision)
    training = _MemberTraining(run, member)
    for index in range(state.phase, len(member.phases)):
        state = _PhaseTraining(training, state, index).train()
    keras.config.set_dtype_policy("float32")
    return training.save_network(state.best_weights)


class _MemberTraining:
    """What all phases of a member's training share: its data and its network."""

    def __init__(self, run: Run, member: MemberRecipe) -> None:
        self.run, self.recipe, self.member = run, run.recipe, member
        self.folder = run.folder / member.name
        self.classes = run.class_count(member)
        self.labels = {part: run.member_labels(member, part) for part in ("train", "validation")}
        self._chosen = {part: run.chosen(member, part) for part in ("train", "validation")}
        self._statistics = _pixel_statistics(run) if member.scaling == "z_score" else None
        counts = np.bincount(self.labels["train"], minlength=self.classes)
        self.log_prior = np.log(np.maximum(counts, 1) / len(self.labels["train"]))
        self.shift = log_prior_shift(self.labels["train"], run.recipe, self.classes)
        self.network = self.build()

    def build(self, *, resize: bool = False) -> keras.Model:
        """Build the member's network with its starting weights."""
        return build_network(
            self.member,
            self.classes,
            size=self.recipe.member_size(self.member),
            channels=self.recipe.channels,
            statistics=self._statistics,
            resize=resize,
        )

    def pixels(self, part: str, size: tuple[int, int]) -> Subset:
        """Return the images of ``part`` on which the member trains, uint8 ``[N, height, width, C]``."""
        return Subset(self.run.pixels(part, size), self._chosen[part])

    def save_network(self, weights: str) -> keras.Model:
        """Save and return the finished network with the weights from the file ``weights``."""
        network = self.build()
        network.load_weights(self.folder / weights)
        if self.member.image_size:
            trained, network = network, self.build(resize=True)
            network.set_weights(trained.get_weights())
        part = self.folder / "part.keras"
        network.save(part)
        part.replace(self.folder / NETWORK)
        return network


class _PhaseTraining:
    """One phase of a member's training, started from the best weights so far or from a checkpoint."""

    def __init__(self, member: _MemberTraining, state: State, index: int) -> None:
        self._member, self._state, self._index = member, state, index
        self._run, self._recipe = member.run, member.recipe
        self._phase = member.member.phases[index]
        self._size = self._recipe.phase_size(member.member, self._phase)
        self._training = member.pixels("train", self._recipe.picture_size or self._size)
        self._validation = member.pixels("validation", self._size)
        self._network = member.network
        if index > 0:
            self._network.load_weights(member.folder / state.best_weights)
        # Compiling again applies the changed `trainable`, and gives the phase a new optimizer.
        set_trainable(self._network, self._phase)
        self._trainer = compile_trainer(
            self._recipe,
            member.member,
            self._phase,
            self._network,
            member.labels["train"],
            member.classes,
            self._run.seed + index,
        )
        # The network that is validated and saved: the moving average of the weights if the recipe sets `ema`.
        self._candidate = member.build() if self._recipe.ema else self._network
        self._restore()

    def train(self) -> State:
        """Train the remaining epochs, and return the state from which the next phase starts."""
        cosine = self._phase.schedule == "cosine"  # runs to its end, because it gains most in its last epochs
        while self._state.epoch < self._phase.epochs and (
            cosine or self._state.since_best < self._phase.stop_patience
        ):
            self._train_epoch()
        if self._recipe.ema and self._phase.trainable != "head":
            self._reestimate_batch_norm()
        state = State(
            phase=self._index + 1, history=self._state.history, best_weights=self._state.best_weights
        )
        commit(self._member.folder, state)
        return state

    def _restore(self) -> None:
        """Load the checkpoint of this phase, or prepare its first epoch if there is none."""
        state, folder, averaged = self._state, self._member.folder, self._candidate is not self._network
        if state.epoch > 0:
            self._trainer.load_weights(folder / state.weights)
            if averaged:
                self._candidate.load_weights(folder / state.average)
            return
        if averaged:
            self._candidate.set_weights(self._network.get_weights())
        if self._index > 0:  # the weights at the start, at this phase's image size, are the ones to beat
            state.best = monitored(self._recipe, self._validate(self._network))

    def _train_epoch(self) -> None:
        """Train and validate one epoch, then commit it to the checkpoint."""
        state, phase = self._state, self._phase
        started = time.monotonic()
        if phase.schedule != "cosine":
            rate = phase.learning_rate * state.rate_factor
            self._trainer.optimizer.learning_rate = max(rate, phase.min_learning_rate)
        epoch_id = self._epoch_id(state.epoch)
        reseed(self._trainer, self._run.seed, epoch_id)
        steps = steps_per_epoch(self._recipe, self._member.labels["train"])
        train_loss, waited = _train_batches(
            self._trainer, self._batches(epoch_id), steps, self._update_average if self._recipe.ema else None
        )
        validation_started = time.monotonic()
        record = self._validate(self._candidate) | {
            "phase": self._index,
            "epoch": state.epoch,
            "seconds": time.monotonic() - started,
            "validation_seconds": time.monotonic() - validation_started,
            "input_wait": waited,
            "learning_rate": float(keras.ops.convert_to_tensor(self._trainer.optimizer.learning_rate)),
            "train_loss": train_loss,
        }
        self._commit(record)
        self._print_progress(record)

    def _commit(self, record: dict[str, float]) -> None:
        """Update the state by the epoch's ``record``; save the weights first, then the state."""
        state, phase, folder = self._state, self._phase, self._member.folder
        state.epoch += 1
        state.history.append(record)
        state.since_best, state.since_drop = state.since_best + 1, state.since_drop + 1
        if monitored(self._recipe, record) < state.best:
            state.best, state.since_best, state.since_drop = monitored(self._recipe, record), 0, 0
            state.best_weights = f"best-{self._index}-{state.epoch}.weights.h5"
            _save_weights(self._candidate, folder / state.best_weights)
        if phase.schedule == "plateau" and state.since_drop >= phase.plateau_patience:
            state.rate_factor, state.since_drop = state.rate_factor * phase.plateau_factor, 0
        _save_weights(self._trainer, folder / state.weights)
        if self._recipe.ema:
            _save_weights(self._candidate, folder / state.average)
        commit(folder, state)

    def _reestimate_batch_norm(self) -> None:
        """Estimate the statistics of batch normalisation for the averaged weights; keep them if they help."""
        state, name = self._state, self._member.member.name
        self._network.load_weights(self._member.folder / state.best_weights)
        epoch_id = self._epoch_id(self._phase.epochs)
        reseed(self._trainer, self._run.seed, epoch_id)
        reestimate_batch_norm(self._trainer, islice(self._batches(epoch_id), _STATISTICS_STEPS))
        metrics = self._validate(self._network)
        monitor = self._recipe.monitor
        print(f"{name} batch normalisation statistics re-estimated: {monitor} {metrics[monitor]:.4f}")
        if monitored(self._recipe, metrics) < state.best:
            state.best_weights = f"best-{self._index}-statistics.weights.h5"
            _save_weights(self._network, self._member.folder / state.best_weights)

    def _epoch_id(self, epoch: int) -> int:
        return 1000 * self._index + epoch

    def _batches(self, epoch_id: int) -> Iterator[Any]:
        """Return the batches of one epoch, with random crops if the recipe crops whole pictures."""
        member, recipe = self._member.member, self._recipe
        pixels: Subset | Crops = self._training
        if recipe.picture_size:
            rng = np.random.default_rng([self._run.seed, epoch_id, 1])
            pixels = Crops(pixels, self._size, member.augmentation or recipe.augmentation, rng)
        labels, classes = self._member.labels["train"], self._member.classes
        return batches(pixels, labels, recipe, classes, self._run.seed, epoch_id, device_count())

    def _validate(self, network: keras.Model) -> dict[str, float]:
        logits = predict_logits(network, self._validation, self._recipe.batch_size)
        member = self._member
        return validation_metrics(logits, member.labels["validation"], member.shift, member.log_prior)

    def _update_average(self) -> None:
        update_average(self._trainer, self._network, self._candidate, self._recipe.ema)

    def _print_progress(self, record: dict[str, float]) -> None:
        member, phase, state = self._member.member, self._phase, self._state
        best = " *" if state.since_best == 0 else ""
        print(
            f"{member.name} phase {self._index + 1}/{len(member.phases)} epoch {state.epoch}/{phase.epochs} "
            f"{record['seconds']:.0f} s  train loss {record['train_loss']:.4f}  validation loss "
            f"{record['loss']:.4f} macro {record['macro_loss']:.4f} accuracy {record['accuracy']:.3f} "
            f"balanced {record['balanced_accuracy']:.3f}{best}",
            flush=True,
        )


def predict_logits(network: keras.Model, pixels: Any, batch_size: int) -> np.ndarray:
    """Return the logits, float64 ``[N, K]``, of uint8 images ``[N, H, W, C]``."""
    parts = []
    for start in range(0, len(pixels), batch_size):
        images = pixels[start : start + batch_size].astype(np.float32)
        missing = batch_size - len(images)
        # Batches of equal size are compiled once, and several devices can share each.
        full = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
        logits = keras.ops.convert_to_numpy(network.predict_on_batch(full))
        parts.append(logits[: len(images)].astype(np.float64))
    return np.concatenate(parts)


def _train_batches(
    trainer: keras.Model, source: Iterable[Any], steps: int, after_step: Callable[[], None] | None
) -> tuple[float, float]:
    """Train on the batches of one epoch; return the mean loss, and the seconds spent waiting for batches.

    Keras' ``fit`` reads Python iterators through TensorFlow's generator data set, with which the allocator
    returns its memory after every step: on two cores it spent 31 % of the time in the kernel, against 13 %
    here (measured once).
    """
    bar = keras.utils.Progbar(steps, stateful_metrics=["loss"]) if sys.stderr.isatty() else None
    total, count, waited = 0.0, 0, 0.0
    prefetched = prefetch(source)
    for step in range(1, steps + 1):
        started = time.monotonic()
        images, targets = next(prefetched)
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


def _pixel_statistics(run: Run) -> tuple[float, float]:
    """Return the mean and the variance of all values of the training pixels."""
    pixels = run.pixels("train", run.recipe.size)
    total = squares = 0.0
    for start in range(0, len(pixels), 256):
        chunk = pixels[start : start + 256].astype(np.float64)
        total += float(chunk.sum())
        squares += float((chunk**2).sum())
    mean = total / pixels.size
    return mean, squares / pixels.size - mean**2


def _check_sizes(recipe: Recipe, member: MemberRecipe) -> None:
    reason = fixed_size(member)
    for phase in member.phases:
        size, needed = recipe.phase_size(member, phase), recipe.member_size(member)
        if reason and size != needed:
            raise RecipeError(f"{member.name}: {reason}, so every phase needs images of {needed}, got {size}")


def _save_weights(model: keras.Model, path: Path) -> None:
    """Save a model's weights, and its optimizer if it has one, atomically."""
    part = path.with_name(f"part-{path.name}")
    model.save_weights(part)
    part.replace(path)
