"""Xception, all layers trained, augmented RGB images.

    python -m training run --recipe report/xception --data DIR --out runs/NAME

Batches of 64, 30 epochs of Adam, cross entropy; rotation, zoom, shear, shifts and flips.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the best epoch by
validation loss is kept.

Published, on a split by image (it flatters): accuracy 0.87, precision 0.75, recall 0.82, F1 0.78.
Measured here: not trained here.
"""

from training.recipe import MemberRecipe, Recipe
from training.recipes.report._common import AUGMENTATION, PHASES

RECIPE = Recipe(
    name="report/xception",
    members=(MemberRecipe(name="xception", backbone="xception", phases=PHASES),),
    batch_size=64,
    optimizer="adam",
    clip_norm=0.0,
    augmentation=AUGMENTATION,
)
