"""Inception v3 with its backbone frozen and two hidden layers: the report's negative result.

    python -m training run --recipe keras_cnn/inception_v3 --data DIR --out runs/NAME

At 100 × 75 pixels, the smallest it takes, its feature map is a single cell, so there is no place for a
heatmap to show. The report's network predicted nv for everything. Widths of the two layers are not told: 512
and 256 here.

Differs: split by lesion, not by image.

Published, on a split by image (it flatters): accuracy 0.67, nv for every image.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipe import Head, MemberRecipe, Recipe
from training.recipes.keras_cnn._common import IMAGE_SIZE, PHASE

RECIPE = Recipe(
    name="keras_cnn/inception_v3",
    members=(
        MemberRecipe(
            name="inception_v3",
            backbone="inception_v3",
            head=Head(pooling="flatten", hidden=(512, 256), dropout=0.5),
            phases=(replace(PHASE, trainable="head"),),
        ),
    ),
    image_size=IMAGE_SIZE,
    batch_size=32,
    optimizer="adam",
    clip_norm=0.0,
)
