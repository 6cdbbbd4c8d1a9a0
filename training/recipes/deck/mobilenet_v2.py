"""MobileNetV2: ten epochs with the backbone frozen, then its last layers unfrozen.

    python -m training run --recipe deck/mobilenet_v2 --data DIR --out runs/NAME

Cross entropy, Adam at 1e-4. How many layers were unfrozen, for how long and at what rate is not told:
here the last 54 (from layer 100, where Keras' own tutorial begins), ten more epochs at a tenth of the rate.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; batch
normalisation at momentum 0.9 instead of 0.999, which lags behind in short trainings; the best epoch by
validation loss is kept.

Published, on a split by image (it flatters): accuracy 0.7665, macro F1 0.437, weighted F1 0.728.
Measured here: not trained here.
"""

from training.recipe import MemberRecipe, Phase, Recipe
from training.recipes.deck._common import HEAD

RECIPE = Recipe(
    name="deck/mobilenet_v2",
    members=(
        MemberRecipe(
            name="mobilenet_v2",
            backbone="mobilenet_v2",
            phases=(HEAD, Phase(54, epochs=10, learning_rate=1e-5, schedule="constant")),
        ),
    ),
    optimizer="adam",
    clip_norm=0.0,
)
