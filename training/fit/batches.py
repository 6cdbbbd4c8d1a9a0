"""Training batches: which images an epoch draws, in which order, with which class balance."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from training.recipe import Recipe


class Subset:
    """Some of the images of an array, without copying it."""

    def __init__(self, pixels: np.ndarray, chosen: np.ndarray) -> None:
        self._pixels, self._chosen = pixels, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, places: Any) -> np.ndarray:
        return np.asarray(self._pixels[self._chosen[places]])


def prefetch(drawn: Iterable[Any]) -> Iterator[Any]:
    """The same batches, each gathered in a thread while the one before is being trained on."""
    source = iter(drawn)
    with ThreadPoolExecutor(1, "batches") as pool:
        coming = pool.submit(next, source, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, source, None)
            yield batch


def batches(
    pixels: Any,
    labels: np.ndarray,
    recipe: Recipe,
    classes: int,
    seed: int,
    epoch: int,
    multiple: int = 1,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One epoch's batches: uint8 images ``[n, H, W, C]`` and one-hot float32 labels ``[n, K]``.

    The draw depends on seed and epoch alone, so a resumed run sees what the stopped one would
    have seen. The last batch is filled from the first until it is a ``multiple`` that as many
    devices can share.
    """
    one_hot = np.eye(classes, dtype=np.float32)
    order = draw(labels, recipe, np.random.default_rng([seed, epoch]))
    order = np.concatenate([order, order[: -len(order) % multiple]])
    for start in range(0, len(order), recipe.batch_size):
        chosen = np.sort(order[start : start + recipe.batch_size])  # sorted: kinder to the disk
        yield pixels[chosen], one_hot[labels[chosen]]


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
    counts = np.maximum(np.bincount(labels, minlength=classes), 1).astype(float)
    weights = counts**-recipe.class_weight_power
    mean: float = float((weights * counts).sum() / counts.sum())
    return np.asarray(weights / mean)


def log_prior_shift(labels: np.ndarray, recipe: Recipe, classes: int) -> np.ndarray:
    """log(effective prior / training prior) of each class, float64 ``[K]``.

    Drawing or weighting classes unequally makes a network learn p(y|x)·e_y/π_y up to
    normalisation, with e the prior that it effectively saw. Subtracting this from its calibrated
    logits gives back p(y|x) at the prevalence π of the training data (Menon et al., "Long-tail learning
    via logit adjustment", ICLR 2021).
    """
    counts = np.maximum(np.bincount(labels, minlength=classes), 1).astype(float)
    effective = counts**recipe.sampling_power * counts**-recipe.class_weight_power
    return np.asarray(np.log(effective / effective.sum()) - np.log(counts / counts.sum()))
