"""MobileNetV2 with deeper layers unfrozen, a lower rate and early stopping: the ensemble's first member.

    python -m training run --recipe deck/mobilenet_v2_fine_tuned --data DIR --out runs/NAME

Focal loss of gamma 1.5 with class weights. Depth, rate and patience are not told: here the last 100 of
154 layers at 5e-5, lowered on a plateau, stopped after ten epochs without gain.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the class weights
are taken out of the probabilities again.

Published, on a split by image (it flatters): accuracy 0.7658, macro F1 0.599, weighted F1 0.775.
Measured here: not trained here.
"""

from training.recipe import MemberRecipe, Phase, Recipe
from training.recipes.deck._common import HEAD

RECIPE = Recipe(
    name="deck/mobilenet_v2_fine_tuned",
    members=(
        MemberRecipe(
            name="mobilenet_v2",
            backbone="mobilenet_v2",
            phases=(HEAD, Phase(100, epochs=60, learning_rate=5e-5)),
        ),
    ),
    optimizer="adam",
    clip_norm=0.0,
    focal_gamma=1.5,
    class_weight_power=1.0,
)
