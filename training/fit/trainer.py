"""A network made ready to train: augmentation before it, loss, optimizer and learning rate."""

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
    """``network`` behind its augmentation, compiled for ``phase``; images uint8 in, logits out."""
    shape = (*recipe.phase_size(member, phase), recipe.channels)
    augmentation = member.augmentation or recipe.augmentation
    if recipe.picture_size:  # crops have been cut from the pictures
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
        # Kernels only: biases and the scales of batch normalisation have one dimension. Decaying them
        # gains nothing (He et al., "Bag of Tricks for Image Classification", CVPR 2019, section 3.1).
        flat = [variable for variable in network.trainable_variables if len(variable.shape) < 2]
        optimizer.exclude_from_weight_decay(var_list=flat)
    trainer.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalFocalCrossentropy(
            alpha=class_weights(labels, recipe, classes).tolist(), gamma=recipe.focal_gamma, from_logits=True
        ),
        # XLA makes TensorFlow's CPU training about seven times slower (measured), and JAX needs it.
        jit_compile=keras.backend.backend() == "jax",
    )
    # Built now: state can only be loaded into an optimizer that has its variables.
    trainer.optimizer.build(network.trainable_variables)
    return trainer


def reseed(trainer: keras.Model, seed: int, epoch: int) -> None:
    """Start the random streams of augmentation and dropout anew, as seed and epoch alone decide."""
    states = [variable for variable in trainer.variables if variable.name == "seed_generator_state"]
    for index, state in enumerate(states):
        state.assign(np.random.SeedSequence([seed, epoch, index]).generate_state(2))


def reestimate_batch_norm(trainer: keras.Model, drawn: Iterable[Any]) -> None:
    """Give batch normalisation the mean statistics of the batches ``drawn``, with the weights as they are.

    Averaged weights need it: no batch was ever seen with them (Izmailov et al., "Averaging Weights
    Leads to Wider Optima and Better Generalization", UAI 2018, section 3.2).
    """
    layers = [
        layer for layer in trainer._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in layers]
    for count, (images, _) in enumerate(drawn):
        for layer in layers:
            layer.momentum = count / (count + 1)  # makes the moving average a mean
        trainer(images, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def steps_per_epoch(recipe: Recipe, labels: np.ndarray) -> int:
    """Training steps of one epoch."""
    return -(-draws_per_epoch(len(labels), recipe) // recipe.batch_size)
