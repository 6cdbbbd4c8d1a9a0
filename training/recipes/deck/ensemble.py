"""The deck's ensemble: MobileNetV2 0.6 + EfficientNetB1 0.4, weighted mean of probabilities.

    python -m training run --recipe deck/ensemble --data DIR --out runs/NAME

Its members are trained as in deck/mobilenet_v2_fine_tuned and deck/efficientnet_b1: focal loss (gamma
1.5) with class weights inverse to frequency, deeper layers unfrozen, early stopping.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; each member has a
temperature fitted on validation, and the class weights are taken out of its probabilities again.

Published, on a split by image (it flatters): accuracy 0.7645, macro F1 0.639, weighted F1 0.778; F1 by class
akiec 0.46, bcc 0.71, bkl 0.57, df 0.56, mel 0.48, nv 0.88, vasc 0.80.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipe import Recipe
from training.recipes.deck.efficientnet_b1 import RECIPE as EFFICIENTNET_B1
from training.recipes.deck.mobilenet_v2_fine_tuned import RECIPE as MOBILENET_V2

RECIPE = Recipe(
    name="deck/ensemble",
    members=(
        replace(MOBILENET_V2.members[0], weight=0.6),
        replace(EFFICIENTNET_B1.members[0], weight=0.4),
    ),
    optimizer="adam",
    clip_norm=0.0,
    focal_gamma=1.5,
    class_weight_power=1.0,
)
