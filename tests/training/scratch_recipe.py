"""A tiny network from scratch, for tests of everything around the training."""

from training.recipe import Block, MemberRecipe, Phase, Recipe, ScratchCNN

RECIPE = Recipe(
    name="scratch",
    members=(
        MemberRecipe(
            name="cnn",
            backbone=ScratchCNN((Block(8), Block(16))),
            weight=1.0,
            phases=(Phase("all", epochs=1, learning_rate=1e-3),),
        ),
    ),
    image_size=32,
    batch_size=8,
)
