"""EfficientNetB0 with its last 100 layers unfrozen, 30 epochs.

    python -m training run --recipe deck/efficientnet_b0 --data DIR --out runs/NAME

Adam at 1e-4, focal loss of gamma 1.5 with class weights.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the class weights
are taken out of the probabilities again; the best epoch by validation loss is kept.

Published, on a split by image (it flatters): accuracy 0.6560, macro F1 0.510, weighted F1 0.689.
Measured here: not trained here.
"""

from training.recipe import MemberRecipe, Phase, Recipe

RECIPE = Recipe(
    name="deck/efficientnet_b0",
    members=(
        MemberRecipe(
            name="efficientnet_b0",
            backbone="efficientnet_b0",
            # A patience as long as the phase: no early stopping.
            phases=(Phase(100, epochs=30, learning_rate=1e-4, schedule="constant", stop_patience=30),),
        ),
    ),
    optimizer="adam",
    clip_norm=0.0,
    focal_gamma=1.5,
    class_weight_power=1.0,
)
