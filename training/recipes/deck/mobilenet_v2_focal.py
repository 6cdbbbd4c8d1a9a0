"""MobileNetV2 as in deck/mobilenet_v2, with focal loss and class weights.

    python -m training run --recipe deck/mobilenet_v2_focal --data DIR --out runs/NAME

Ten epochs at 1e-4. Gamma is not told for this model: 1.5, as in those after it. Class weights are
inverse to the class frequency.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the class weights
are taken out of the probabilities again, which then hold at the prevalence of the training data.

Published, on a split by image (it flatters): accuracy 0.6926, macro F1 0.534, weighted F1 0.722.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipes.deck.mobilenet_v2 import RECIPE as MOBILENET_V2

RECIPE = replace(MOBILENET_V2, name="deck/mobilenet_v2_focal", focal_gamma=1.5, class_weight_power=1.0)
