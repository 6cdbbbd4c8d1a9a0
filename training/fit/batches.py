"""Training batches: the images that an epoch draws, their order, and the class balance."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from training.recipe import Recipe


class Subset:
    """A view of the images of an array that have the indices ``chosen``, without a copy."""

    def __init__(self, pixels: np.ndarray, chosen: np.ndarray) -> None:
        self._pixels, self._chosen = pixels, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self._pixels[self._chosen[index]])


def prefetch(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield ``batches``, and read the next one in a thread while the current one is used."""
    source = iter(batches)
    with ThreadPoolExecutor(1, "batches") as pool:
        upcoming = pool.submit(next, source, None)
        while (batch := upcoming.result()) is not None:
            upcoming = pool.submit(next, source, None)
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
    """Yield one epoch's batches: uint8 images ``[n, H, W, C]`` and one-hot float32 labels ``[n, K]``.

    The order depends on seed and epoch only, so a resumed run sees the same batches.

    Args:
        pixels: uint8 ``[N, H, W, C]``, or an object indexed like it.
        labels: int ``[N]``.
        recipe: gives the batch size and the class balance.
        classes: number of classes K.
        seed: the run's seed.
        epoch: number of the epoch.
        multiple: the size of the last batch becomes a multiple of this by repeating images of the first
            batches, so that as many devices can share it.
    """
    one_hot = np.eye(classes, dtype=np.float32)
    order = draw(labels, recipe, np.random.default_rng([seed, epoch]))
    order = np.concatenate([order, order[: -len(order) % multiple]])
    for start in range(0, len(order), recipe.batch_size):
        chosen = np.sort(order[start : start + recipe.batch_size])  # reads the disk in order
        yield pixels[chosen], one_hot[labels[chosen]]


def draw(labels: np.ndarray, recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    """Return the indices of one epoch's images, in random order.

    The number of draws of a class is proportional to n ** ``sampling_power``. Within a class, no image is
    repeated before all have been drawn.
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
    """Return the number of images that an epoch draws from a training part of ``images`` images."""
    return max(1, round(images * recipe.epoch_size))


def class_weights(labels: np.ndarray, recipe: Recipe, classes: int) -> np.ndarray:
    """Return the loss weight of each class, float64 ``[K]``.

    The weights are proportional to n ** -``class_weight_power``, with the mean 1 over the images.
    """
    counts = np.maximum(np.bincount(labels, minlength=classes), 1).astype(float)
    weights = counts**-recipe.class_weight_power
    mean: float = float((weights * counts).sum() / counts.sum())
    return np.asarray(weights / mean)


def log_prior_shift(labels: np.ndarray, recipe: Recipe, classes: int) -> np.ndarray:
    """Return log(effective prior / training prior) of each class, float64 ``[K]``.

    With class-dependent sampling or loss weights, a network learns p(y|x) · e_y / π_y up to normalisation,
    where e is the effective prior and π the prevalence in the training data. Subtracting the shift from its
    calibrated logits restores p(y|x) at the prevalence π (Menon et al., "Long-tail learning via logit
    adjustment", ICLR 2021).
    """
    counts = np.maximum(np.bincount(labels, minlength=classes), 1).astype(float)
    effective = counts**recipe.sampling_power * counts**-recipe.class_weight_power
    return np.asarray(np.log(effective / effective.sum()) - np.log(counts / counts.sum()))
