"""MobileNet with its last 50 layers trained for 500 epochs, a regularised head and strong augmentation.

    python -m training run --recipe transfer/mobilenet_enhanced --data DIR --out runs/NAME

Global average pooling, batch normalisation, dropout 0.5, an L2 penalty of 1e-3, Adam at 1e-3; rotation and
zoom by up to 30 % (read as 30° and 0.3).

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; batch normalisation
at momentum 0.9; the best epoch by validation loss is kept.

Published, on a split by image (it flatters): accuracy 0.83 (validation 0.84), 1,092 minutes of training.
Measured here: not trained here.
"""

from training.recipe import Augmentation, Head, MemberRecipe, Recipe
from training.recipes.transfer._common import IMAGE_SIZE, constant

RECIPE = Recipe(
    name="transfer/mobilenet_enhanced",
    members=(
        MemberRecipe(
            name="mobilenet",
            backbone="mobilenet",
            head=Head(batch_norm=True, dropout=0.5, l2=1e-3),
            phases=(constant(50, learning_rate=1e-3, epochs=500),),
            scaling="z_score",
        ),
    ),
    image_size=IMAGE_SIZE,
    batch_size=10,
    optimizer="adam",
    clip_norm=0.0,
    augmentation=Augmentation(rotation=30.0, zoom=0.3),
)
