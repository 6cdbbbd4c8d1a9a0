"""The network of keras_cnn/proposed with class weights.

    python -m training run --recipe keras_cnn/proposed_class_weights --data DIR --out runs/NAME

Loss weights inverse to the class frequency.

Differs: split by lesion, not by image; the class weights are taken out of the probabilities again, which
then hold at the prevalence of the training data.

Published, on a split by image (it flatters): macro F1 0.51, accuracy 0.65.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipes.keras_cnn.proposed import RECIPE as PROPOSED

RECIPE = replace(PROPOSED, name="keras_cnn/proposed_class_weights", class_weight_power=1.0)
