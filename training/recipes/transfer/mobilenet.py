"""MobileNet with its last 23 layers trained.

    python -m training run --recipe transfer/mobilenet --data DIR --out runs/NAME

Global average pooling, dropout 0.3, Adam at 1e-4, batches of 10, 50 epochs, z-scored images of 100 × 125
pixels.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the best epoch by
validation loss is kept.

Published, on a split by image (it flatters): accuracy 0.81 (validation 0.83), 54 minutes of training.
Measured here: not trained here.
"""

from training.recipe import Head, MemberRecipe, Recipe
from training.recipes.transfer._common import IMAGE_SIZE, constant

RECIPE = Recipe(
    name="transfer/mobilenet",
    members=(
        MemberRecipe(
            name="mobilenet",
            backbone="mobilenet",
            head=Head(dropout=0.3),
            phases=(constant(23, learning_rate=1e-4),),
            scaling="z_score",
        ),
    ),
    image_size=IMAGE_SIZE,
    batch_size=10,
    optimizer="adam",
    clip_norm=0.0,
)
