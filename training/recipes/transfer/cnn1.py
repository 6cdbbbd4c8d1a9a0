"""A CNN of three blocks from scratch, dropout rising from 0.15 to 0.34.

    python -m training run --recipe transfer/cnn1 --data DIR --out runs/NAME

Three times a convolution of 32, max pooling and dropout, then dense layers of 256 and 128; Adam, batches of
10, 50 epochs, z-scored images of 100 × 125 pixels. Not told: the middle dropout (here 0.25) and the rate
(here Adam's default, 1e-3).

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the best epoch by
validation loss is kept.

Published, on a split by image (it flatters): accuracy 0.75 (validation 0.76), 58 minutes of training.
Measured here: not trained here.
"""

from training.recipe import Block, Head, MemberRecipe, Phase, Recipe, ScratchCNN
from training.recipes.transfer._common import EPOCHS, IMAGE_SIZE

RECIPE = Recipe(
    name="transfer/cnn1",
    members=(
        MemberRecipe(
            name="cnn",
            backbone=ScratchCNN((Block(32, dropout=0.15), Block(32, dropout=0.25), Block(32, dropout=0.34))),
            head=Head(pooling="flatten", hidden=(256, 128), dropout=0.0),
            phases=(Phase("all", EPOCHS, learning_rate=1e-3, schedule="constant", stop_patience=EPOCHS),),
            scaling="z_score",
            starting_weights="none",
        ),
    ),
    image_size=IMAGE_SIZE,
    batch_size=10,
    optimizer="adam",
    clip_norm=0.0,
)
