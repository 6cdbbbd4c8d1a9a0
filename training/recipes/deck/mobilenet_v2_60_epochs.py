"""MobileNetV2 with focal loss for 60 epochs, the learning rate lowered on a plateau.

    python -m training run --recipe deck/mobilenet_v2_60_epochs --data DIR --out runs/NAME

Focal loss of gamma 1.5 with class weights; the rate starts at 1e-4 and is lowered after three epochs
without gain, to 0.3 of what it was (the deck says "dynamic" only).

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the class weights
are taken out of the probabilities again; the best epoch by validation loss is kept.

Published, on a split by image (it flatters): accuracy 0.7265, macro F1 0.528, weighted F1 0.749.
Measured here: not trained here.
"""

from training.recipe import MemberRecipe, Phase, Recipe
from training.recipes.deck._common import HEAD

RECIPE = Recipe(
    name="deck/mobilenet_v2_60_epochs",
    members=(
        MemberRecipe(
            name="mobilenet_v2",
            backbone="mobilenet_v2",
            # A patience as long as the phase: no early stopping.
            phases=(HEAD, Phase(54, epochs=50, learning_rate=1e-4, stop_patience=50)),
        ),
    ),
    optimizer="adam",
    clip_norm=0.0,
    focal_gamma=1.5,
    class_weight_power=1.0,
)
