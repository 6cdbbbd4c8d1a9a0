"""A plain network of five dense layers on the pixels, no convolution.

    python -m training run --recipe transfer/basic_nn --data DIR --out runs/NAME

Five hidden layers of 64, Adam at 7.5e-4, batches of 10, 50 epochs, z-scored images of 100 × 125 pixels.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the best epoch by
validation loss is kept. Without a feature map of its own, its heatmap is that of single pixels.

Published, on a split by image (it flatters): accuracy 0.69 (validation 0.72), 15 minutes of training.
Measured here: not trained here.
"""

from training.recipe import Head, MemberRecipe, Phase, Pixels, Recipe
from training.recipes.transfer._common import EPOCHS, IMAGE_SIZE

RECIPE = Recipe(
    name="transfer/basic_nn",
    members=(
        MemberRecipe(
            name="basic_nn",
            backbone=Pixels(),
            head=Head(pooling="flatten", hidden=(64, 64, 64, 64, 64), dropout=0.0),
            phases=(Phase("all", EPOCHS, learning_rate=7.5e-4, schedule="constant", stop_patience=EPOCHS),),
            scaling="z_score",
            starting_weights="none",
        ),
    ),
    image_size=IMAGE_SIZE,
    batch_size=10,
    optimizer="adam",
    clip_norm=0.0,
)
