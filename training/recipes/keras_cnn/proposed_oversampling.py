"""The network of keras_cnn/proposed, all classes drawn alike and augmented.

    python -m training run --recipe keras_cnn/proposed_oversampling --data DIR --out runs/NAME

The report fills its 8,012 training images up to 34,076 with augmented copies: rotation by up to 45°, zoom
0.2, shifts 0.1, flips. Here an epoch draws as many, each class as often as any other, augmented anew.

Differs: oversampling comes after the split, which is by lesion; the same copies are never seen twice, and
the frequent classes are augmented, too; the balanced draws are taken out of the probabilities again.

Published, on a split by image (it flatters): macro F1 0.56, accuracy 0.72.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipe import Augmentation
from training.recipes.keras_cnn.proposed import RECIPE as PROPOSED

RECIPE = replace(
    PROPOSED,
    name="keras_cnn/proposed_oversampling",
    sampling_power=0.0,
    epoch_size=34_076 / 8_012,
    augmentation=Augmentation(flips=True, rotation=45.0, zoom=0.2, shift=0.1),
)
