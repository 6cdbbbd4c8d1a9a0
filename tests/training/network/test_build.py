"""``training.network.build``: the layers that a recipe describes."""

import keras
import pytest

from training.network.build import build_network
from training.recipe import Block, Head, MemberRecipe, ScratchCNN


def _network(**changes: object) -> keras.Model:
    fields: dict[str, object] = {
        "backbone": ScratchCNN((Block(4),)),
        "starting_weights": "none",
        "phases": (),
    }
    return build_network(MemberRecipe("m", **(fields | changes)), 3, size=(32, 32))  # type: ignore[arg-type]


@pytest.mark.parametrize("hidden", [(), (8,), (8, 4)])
def test_a_head_has_one_dropout_directly_before_its_last_layer(hidden: tuple[int, ...]) -> None:
    layers = _network(head=Head(pooling="flatten", hidden=hidden, dropout=0.506)).layers
    dropouts = [index for index, layer in enumerate(layers) if isinstance(layer, keras.layers.Dropout)]
    assert dropouts == [len(layers) - 2]
    assert layers[-2].rate == 0.506


@pytest.mark.parametrize(("pool_size", "side"), [(2, 8), (3, 3)])
def test_pooling_reduces_the_feature_map_by_its_size(pool_size: int, side: int) -> None:
    network = _network(backbone=ScratchCNN((Block(4), Block(4)), pool_size=pool_size))
    backbone = network.get_layer("backbone")
    assert backbone.compute_output_shape((1, 32, 32, 3)) == (1, side, side, 4)
