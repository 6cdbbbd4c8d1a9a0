"""A CNN from scratch for benign or malignant, found by random search: 3 × Conv 32.

    python -m training run --recipe benign_malignant/scratch_1 --data DIR --out runs/NAME

Three convolutions of 32 with max pooling, a dense layer of 64, dropout 0.5, Adam. Epochs are not
told: 15 here, at 1e-3. `python -m training search` repeats such a search.

Differs: a softmax of two classes for the sigmoid; akiec counts as malignant, too, as in the service; split
by lesion, not by image; the centre is cropped, not the image squashed; all images are augmented.

Published, on a split by image (it flatters): accuracy 0.76.
Measured here: not trained here.
"""

from training.recipe import Block, Head, MemberRecipe, Phase, Recipe, ScratchCNN
from training.recipes.benign_malignant._common import AUGMENTATION, EPOCH_SIZE

RECIPE = Recipe(
    name="benign_malignant/scratch_1",
    members=(
        MemberRecipe(
            name="scratch_1",
            backbone=ScratchCNN((Block(32), Block(32), Block(32))),
            head=Head(pooling="flatten", hidden=(64,), dropout=0.5),
            phases=(Phase("all", epochs=15, learning_rate=1e-3, schedule="constant", stop_patience=15),),
            scaling="unit",
            starting_weights="none",
        ),
    ),
    task="malignancy",
    sampling_power=0.0,
    epoch_size=EPOCH_SIZE,
    optimizer="adam",
    clip_norm=0.0,
    augmentation=AUGMENTATION,
)
