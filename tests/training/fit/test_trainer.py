import keras
import numpy as np

from training.fit.trainer import compile_trainer, reestimate_batch_norm
from training.network.build import build_network
from training.recipe import Block, Head, MemberRecipe, Phase, Recipe, ScratchCNN


def test_weight_decay_leaves_out_biases_and_batch_normalisation() -> None:
    phase = Phase("all", epochs=1, learning_rate=1e-1, schedule="constant")
    member = MemberRecipe("m", ScratchCNN((Block(4),)), (phase,), head=Head(dropout=0.0, batch_norm=True))
    recipe = Recipe("test", (member,), image_size=32, batch_size=8, weight_decay=0.5)
    network = build_network(member, 3, size=(32, 32))
    for variable in network.trainable_variables:
        variable.assign(variable + 1.0)  # none is zero, which decay would not show
    before = [variable.numpy() for variable in network.trainable_variables]
    trainer = compile_trainer(recipe, member, phase, network, np.arange(24) % 3, 3, 0)
    trainer.optimizer.apply([keras.ops.zeros_like(v) for v in network.trainable_variables])
    decayed = {
        variable.name
        for variable, old in zip(network.trainable_variables, before, strict=True)
        if not np.array_equal(variable.numpy(), old)
    }
    assert decayed == {"kernel"}


def test_estimated_statistics_are_the_mean_over_the_batches() -> None:
    norm = keras.layers.BatchNormalization()
    trainer = keras.Sequential([keras.Input((4,)), norm])
    rng = np.random.default_rng(0)
    drawn = [(rng.normal(3.0, 2.0, (16, 4)).astype(np.float32), None) for _ in range(5)]
    reestimate_batch_norm(trainer, drawn)
    means = np.mean([images.mean(axis=0) for images, _ in drawn], axis=0)
    variances = np.mean([images.var(axis=0) for images, _ in drawn], axis=0)
    np.testing.assert_allclose(norm.moving_mean.numpy(), means, rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance.numpy(), variances, rtol=1e-4)
    assert norm.momentum == 0.99
