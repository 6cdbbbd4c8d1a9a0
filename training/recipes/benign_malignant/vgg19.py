"""VGG19 for benign or malignant, all layers trained.

    python -m training run --recipe benign_malignant/vgg19 --data DIR --out runs/NAME

First tried as VGG16, then VGG19 with a sigmoid. Not told: the optimizer and how long; here 15 epochs of Adam
at 1e-5, low because the network has no batch normalisation to steady it.

Differs: a softmax of two classes for the sigmoid; akiec counts as malignant, too, as in the service; split
by lesion, not by image; the centre is cropped, not the image squashed; all images are augmented.

Published, on a split by image (it flatters): accuracy 0.85.
Measured here: not trained here.
"""

from training.recipe import MemberRecipe, Phase, Recipe
from training.recipes.benign_malignant._common import AUGMENTATION, EPOCH_SIZE

RECIPE = Recipe(
    name="benign_malignant/vgg19",
    members=(
        MemberRecipe(
            name="vgg19",
            backbone="vgg19",
            phases=(Phase("all", epochs=15, learning_rate=1e-5, schedule="constant", stop_patience=15),),
            scaling="unit",
        ),
    ),
    task="malignancy",
    sampling_power=0.0,
    epoch_size=EPOCH_SIZE,
    optimizer="adam",
    clip_norm=0.0,
    augmentation=AUGMENTATION,
)
