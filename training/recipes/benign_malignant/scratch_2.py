"""A CNN from scratch for benign or malignant, found by random search: 2 × Conv 16.

    python -m training run --recipe benign_malignant/scratch_2 --data DIR --out runs/NAME

Two convolutions of 16 with max pooling, uniform initialisation, a dense layer of 64, dropout 0.3,
RMSprop. Epochs are not told: 15 here, at 1e-3. `python -m training search` repeats such a search.

Differs: a softmax of two classes for the sigmoid; akiec counts as malignant, too, as in the service; split
by lesion, not by image; the centre is cropped, not the image squashed; all images are augmented.

Published, on a split by image (it flatters): accuracy 0.76.
Measured here: not trained here.
"""

from training.recipe import Block, Head, MemberRecipe, Phase, Recipe, ScratchCNN
from training.recipes.benign_malignant._common import AUGMENTATION, EPOCH_SIZE

RECIPE = Recipe(
    name="benign_malignant/scratch_2",
    members=(
        MemberRecipe(
            name="scratch_2",
            backbone=ScratchCNN((Block(16), Block(16)), initializer="random_uniform"),
            head=Head(pooling="flatten", hidden=(64,), dropout=0.3),
            phases=(Phase("all", epochs=15, learning_rate=1e-3, schedule="constant", stop_patience=15),),
            scaling="unit",
            starting_weights="none",
        ),
    ),
    task="malignancy",
    sampling_power=0.0,
    epoch_size=EPOCH_SIZE,
    optimizer="rmsprop",
    clip_norm=0.0,
    augmentation=AUGMENTATION,
)
