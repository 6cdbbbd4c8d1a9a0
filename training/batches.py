"""Training batches: which images an epoch draws, in which order, with which class balance."""

from typing import Any

import keras
import numpy as np

from training.recipe import Recipe


class Batches(keras.utils.PyDataset):
    """Shuffled batches of one epoch: uint8 images ``[n, H, W, C]``, one-hot labels ``[n, K]``.

    The draw depends on seed and epoch alone, so a resumed run sees what the stopped one would
    have seen.
    """

    def __init__(
        self, pixels: np.ndarray, labels: np.ndarray, recipe: Recipe, classes: int, seed: int, epoch: int
    ) -> None:
        super().__init__(workers=1, max_queue_size=8)
        self._pixels, self._batch_size = pixels, recipe.batch_size
        self._one_hot = np.eye(classes, dtype=np.float32)[labels]
        self._order = draw(labels, recipe, np.random.default_rng([seed, epoch]))

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        chosen = np.sort(self._order[index * self._batch_size : (index + 1) * self._batch_size])
        return self._pixels[chosen], self._one_hot[chosen]


def draw(labels: np.ndarray, recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    """Indices of one epoch's images, in random order.

    Each class gets draws ∝ n ** ``sampling_power``; within a class every image comes up before
    any comes up again.
    """
    total = draws_per_epoch(len(labels), recipe)
    counts = np.bincount(labels)
    shares = np.where(counts > 0, counts, 1) ** recipe.sampling_power * (counts > 0)
    quota = np.floor(np.cumsum(shares / shares.sum()) * total + 0.5).astype(int)
    chosen: list[np.ndarray] = []
    for code, size in enumerate(np.diff(quota, prepend=0)):
        members = np.flatnonzero(labels == code)
        if size:
            rounds = -(-size // len(members))
            chosen.append(np.concatenate([rng.permutation(members) for _ in range(rounds)])[:size])
    return rng.permutation(np.concatenate(chosen))


def draws_per_epoch(images: int, recipe: Recipe) -> int:
    """How many images an epoch draws from a training part of ``images`` images."""
    return max(1, round(images * recipe.epoch_size))


def class_weights(labels: np.ndarray, recipe: Recipe, classes: int) -> np.ndarray:
    """Loss weight of each class, float64 ``[K]``, ∝ n ** -``class_weight_power``, mean 1 over the images."""
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    weights = counts**-recipe.class_weight_power
    mean: float = float((weights * counts).sum() / counts.sum())
    return np.asarray(weights / mean)


def log_prior_shift(labels: np.ndarray, recipe: Recipe, classes: int) -> np.ndarray:
    """log(effective prior / training prior) of each class, float64 ``[K]``.

    Drawing or weighting classes unequally makes a network learn p(y|x)·e_y/π_y up to
    normalisation, with e the prior that it effectively saw. Subtracting this from its logits
    gives back p(y|x) at the prevalence π of the training data (Menon et al., "Long-tail learning
    via logit adjustment", ICLR 2021).
    """
    counts = np.maximum(np.bincount(labels, minlength=classes), 1).astype(float)
    effective = counts**recipe.sampling_power * counts**-recipe.class_weight_power
    return np.asarray(np.log(effective / effective.sum()) - np.log(counts / counts.sum()))
