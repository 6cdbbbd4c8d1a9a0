"""EfficientNetB1 with its last 100 layers unfrozen, up to 70 epochs: the ensemble's second member.

    python -m training run --recipe deck/efficientnet_b1 --data DIR --out runs/NAME

Adam at 1e-4, focal loss of gamma 1.5 with class weights, early stopping (after ten epochs without gain;
the deck does not say).

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the class weights
are taken out of the probabilities again.

Published, on a split by image (it flatters): accuracy 0.7658.
Measured here: not trained here.
"""

from training.recipe import MemberRecipe, Phase, Recipe

RECIPE = Recipe(
    name="deck/efficientnet_b1",
    members=(
        MemberRecipe(
            name="efficientnet_b1",
            backbone="efficientnet_b1",
            phases=(Phase(100, epochs=70, learning_rate=1e-4, schedule="constant", stop_patience=10),),
        ),
    ),
    optimizer="adam",
    clip_norm=0.0,
    focal_gamma=1.5,
    class_weight_power=1.0,
)
