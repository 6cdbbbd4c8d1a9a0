"""Both backbones with as little training as possible, for tests of the complete pipeline."""

from training.recipe import MemberRecipe, Phase, Recipe

RECIPE = Recipe(
    name="small",
    members=(
        MemberRecipe(
            name="mobilenet_v2",
            backbone="mobilenet_v2",
            weight=0.6,
            starting_weights="none",
            phases=(
                Phase("head", epochs=2, learning_rate=1e-3, image_size=32),
                Phase(20, epochs=2, learning_rate=1e-3, schedule="cosine"),
            ),
        ),
        MemberRecipe(
            name="efficientnet_b1",
            backbone="efficientnet_b1",
            weight=0.4,
            starting_weights="none",
            feature_scale=0.25,
            image_size=48,
            phases=(Phase("head", epochs=1, learning_rate=1e-2),),
        ),
    ),
    image_size=64,
    batch_size=16,
    focal_gamma=1.5,
    class_weight_power=0.5,
    sampling_power=0.5,
)
