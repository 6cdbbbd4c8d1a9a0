"""MobileNetV2 at 96 pixels for four short epochs: trains in minutes on two cores, for experiments.

    python -m training run --recipe quick --data DIR --out runs/NAME

It is not meant to be served, but to compare methods at low cost, for example grey with colour images or two
kinds of split. docs/training-log.md has the results.
"""

from training.recipe import Augmentation, MemberRecipe, Phase, Recipe
from training.recipes.entry import Entry

RECIPE = Recipe(
    name="quick",
    members=(
        MemberRecipe(
            name="mobilenet_v2",
            backbone="mobilenet_v2",
            weight=1.0,
            phases=(
                Phase("head", epochs=1, learning_rate=1e-3, schedule="constant"),
                Phase("all", epochs=3, learning_rate=4e-4, schedule="cosine"),
            ),
        ),
    ),
    image_size=96,
    sampling_power=0.5,
    epoch_size=0.5,
    weight_decay=0.01,
    augmentation=Augmentation(dihedral=True, min_crop=0.7, brightness=0.1, contrast=0.1, color=0.05),
)

RECIPES = (
    Entry(
        RECIPE,
        "MobileNetV2 at 96 pixels for four short epochs: trains in minutes on two cores, to compare methods",
    ),
)
