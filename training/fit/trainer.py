"""Prepares a network for training: augmentation, loss, optimizer, learning rate, averaged weights."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from training.fit.augment import Augment
from training.fit.batches import class_weights, draws_per_epoch
from training.recipe import MemberRecipe, Phase, Recipe

_OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamax": keras.optimizers.Adamax,
    "adamw": keras.optimizers.AdamW,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}


def compile_trainer(
    recipe: Recipe,
    member: MemberRecipe,
    phase: Phase,
    network: keras.Model,
    labels: np.ndarray,
    classes: int,
    seed: int,
) -> keras.Model:
    """Return ``network`` with its augmentation, compiled for ``phase``.

    Args:
        recipe: the run's recipe.
        member: the member to which the network belongs.
        phase: the phase of training.
        network: the member's network, with the phase's layers set trainable.
        labels: int ``[N]``, the training labels, from which class weights and steps follow.
        classes: number of classes K.
        seed: seed of the augmentation.

    Returns:
        A model from uint8 images ``[n, H, W, C]`` to logits ``[n, K]`` that shares the network's weights.
    """
    shape = (*recipe.phase_size(member, phase), recipe.channels)
    augmentation = member.augmentation or recipe.augmentation
    if recipe.picture_size:  # the batches already are crops
        augmentation = replace(augmentation, min_crop=1.0)
    augment = Augment(augmentation, seed, dtype="float32")
    trainer = keras.Sequential([keras.Input(shape, dtype="uint8"), augment, network])
    rate: Any = phase.learning_rate
    if phase.schedule == "cosine":
        steps = phase.epochs * steps_per_epoch(recipe, labels)
        warmup = max(1, int(phase.warmup * steps))
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - warmup), alpha=0.01, warmup_target=phase.learning_rate, warmup_steps=warmup
        )
    optimizer = _OPTIMIZERS[recipe.optimizer](
        rate, weight_decay=recipe.weight_decay, global_clipnorm=recipe.clip_norm or None
    )
    if recipe.weight_decay:
        # Only kernels decay. Decaying biases and the scales of batch normalisation, which have one dimension,
        # has no benefit (He et al., "Bag of Tricks for Image Classification", CVPR 2019, section 3.1).
        vectors = [variable for variable in network.trainable_variables if len(variable.shape) < 2]
        optimizer.exclude_from_weight_decay(var_list=vectors)
    trainer.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalFocalCrossentropy(
            alpha=class_weights(labels, recipe, classes).tolist(), gamma=recipe.focal_gamma, from_logits=True
        ),
        # JAX needs XLA. It makes TensorFlow's training on a CPU about seven times slower (measured).
        jit_compile=keras.backend.backend() == "jax",
    )
    # A checkpoint can only be loaded into an optimizer whose variables exist.
    trainer.optimizer.build(network.trainable_variables)
    return trainer


def reseed(trainer: keras.Model, seed: int, epoch: int) -> None:
    """Reset the random number generators of augmentation and dropout to a state given by seed and epoch."""
    states = [variable for variable in trainer.variables if variable.name == "seed_generator_state"]
    for index, state in enumerate(states):
        state.assign(np.random.SeedSequence([seed, epoch, index]).generate_state(2))


def update_average(trainer: keras.Model, network: keras.Model, average: keras.Model, decay: float) -> None:
    """Update the moving average of a network's weights: a ← decay · a + (1 − decay) · w.

    After n steps of a phase, the decay is at most (1 + n) / (10 + n), as in TensorFlow's
    ``ExponentialMovingAverage``. Otherwise the weights from before the phase would dominate at first.

    Args:
        trainer: the compiled model, which counts the steps.
        network: the network that is trained.
        average: a network of the same structure; all its weights change, batch statistics included.
        decay: share of the old average that is kept.
    """
    steps = int(trainer.optimizer.iterations)
    decay = min(decay, (1 + steps) / (10 + steps))
    for mean, weight in zip(average.weights, network.weights, strict=True):
        mean.assign(decay * mean + (1.0 - decay) * weight)


def reestimate_batch_norm(trainer: keras.Model, batches: Iterable[Any]) -> None:
    """Set the statistics of batch normalisation to their means over ``batches``; keep all other weights.

    Averaged weights need this, because no batch has passed through them (Izmailov et al., "Averaging Weights
    Leads to Wider Optima and Better Generalization", UAI 2018, section 3.2).
    """
    layers = [
        layer for layer in trainer._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in layers]
    for count, (images, _) in enumerate(batches):
        for layer in layers:
            layer.momentum = count / (count + 1)  # turns the moving average into a mean
        trainer(images, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def steps_per_epoch(recipe: Recipe, labels: np.ndarray) -> int:
    """Return the number of training steps in an epoch."""
    return -(-draws_per_epoch(len(labels), recipe) // recipe.batch_size)
