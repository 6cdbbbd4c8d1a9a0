"""Deck A's ensemble: MobileNetV2 0.6 + EfficientNetB1 0.4, weighted mean of probabilities.

    python -m training run --recipe deck_ensemble --data DIR --out runs/NAME

Focal loss (gamma 1.5) with class weights inverse to frequency; the head first at 1e-4, then the
deeper layers at a lower rate, the rate lowered on a plateau, early stopping, best weights kept.

Published, on a split by image (lesions leak, so it flatters): accuracy 0.7645, macro F1 0.639,
weighted F1 0.778. Measured here: not yet trained in full.
"""

from training.recipe import MemberRecipe, Phase, Recipe

_HEAD = Phase("head", epochs=10, learning_rate=1e-4, stop_patience=5)

RECIPE = Recipe(
    name="deck_ensemble",
    members=(
        MemberRecipe(
            name="mobilenet_v2",
            backbone="mobilenet_v2",
            weight=0.6,
            phases=(_HEAD, Phase(54, epochs=60, learning_rate=5e-5)),
        ),
        MemberRecipe(
            name="efficientnet_b1",
            backbone="efficientnet_b1",
            weight=0.4,
            phases=(_HEAD, Phase(100, epochs=70, learning_rate=5e-5)),
        ),
    ),
    focal_gamma=1.5,
    class_weight_power=1.0,
)
