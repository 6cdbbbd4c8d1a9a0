"""The deck's baseline: a small CNN without pretrained weights.

    python -m training run --recipe deck/baseline_cnn --data DIR --out runs/NAME

Of this network the deck gives the accuracy only. Three blocks, one hidden layer and 20 epochs of Adam
are our choice.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the best epoch by
validation loss is kept.

Published, on a split by image (it flatters): accuracy 0.7066.
Measured here: not trained here.
"""

from training.recipe import Block, Head, MemberRecipe, Phase, Recipe, ScratchCNN

RECIPE = Recipe(
    name="deck/baseline_cnn",
    members=(
        MemberRecipe(
            name="cnn",
            backbone=ScratchCNN((Block(32), Block(64), Block(128))),
            head=Head(pooling="flatten", hidden=(128,), dropout=0.5),
            phases=(Phase("all", epochs=20, learning_rate=1e-3),),
            starting_weights="none",
        ),
    ),
    optimizer="adam",
    clip_norm=0.0,
)
