"""MobileNetV2 at 96 pixels for four short epochs: minutes on two cores, for experiments on method.

    python -m training run --recipe quick --data DIR --out runs/NAME

Not to be served: it compares, say, grey with colour or one split with another at a low cost. The figures of
those comparisons are in docs/training-log.md.
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
        "MobileNetV2 at 96 pixels for four short epochs: minutes on two cores, to compare methods with",
        measured="see [the training log](training-log.md)",
    ),
)
