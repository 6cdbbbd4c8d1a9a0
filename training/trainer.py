"""A network made ready to train: augmentation before it, loss, optimizer and learning rate."""

from typing import Any

import keras
import numpy as np

from training.augment import Augment
from training.batches import class_weights, draws_per_epoch
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
    augment = Augment(member.augmentation or recipe.augmentation, seed, dtype="float32")
    trainer = keras.Sequential([keras.Input(shape, dtype="uint8"), augment, network])
    rate: Any = phase.learning_rate
    if phase.schedule == "cosine":
        steps = phase.epochs * steps_per_epoch(recipe, labels)
        warmup = max(1, int(phase.warmup * steps))
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - warmup), alpha=0.01, warmup_target=phase.learning_rate, warmup_steps=warmup
        )
    trainer.compile(
        optimizer=_OPTIMIZERS[recipe.optimizer](
            rate,
            weight_decay=recipe.weight_decay,
            global_clipnorm=recipe.clip_norm or None,
        ),
        loss=keras.losses.CategoricalFocalCrossentropy(
            alpha=class_weights(labels, recipe, classes).tolist(), gamma=recipe.focal_gamma, from_logits=True
        ),
        # XLA makes TensorFlow's CPU training about seven times slower (measured), and JAX needs it.
        jit_compile=keras.backend.backend() == "jax",
    )
    # Built now: state can only be loaded into an optimizer that has its variables.
    trainer.optimizer.build(network.trainable_variables)
    return trainer


def steps_per_epoch(recipe: Recipe, labels: np.ndarray) -> int:
    """Training steps of one epoch."""
    return -(-draws_per_epoch(len(labels), recipe) // recipe.batch_size)
