"""EfficientNetB0 with its backbone frozen, ten epochs.

    python -m training run --recipe deck/efficientnet_b0_frozen --data DIR --out runs/NAME

Adam at 1e-4. The loss is not told; an accuracy below the share of nevi means a weighted one, so it is the
focal loss of the other models (gamma 1.5, class weights).

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the class weights
are taken out of the probabilities again.

Published, on a split by image (it flatters): accuracy 0.5662, macro F1 0.341, weighted F1 0.618.
Measured here: not trained here.
"""

from training.recipe import MemberRecipe, Recipe
from training.recipes.deck._common import HEAD

RECIPE = Recipe(
    name="deck/efficientnet_b0_frozen",
    members=(MemberRecipe(name="efficientnet_b0", backbone="efficientnet_b0", phases=(HEAD,)),),
    optimizer="adam",
    clip_norm=0.0,
    focal_gamma=1.5,
    class_weight_power=1.0,
)
