"""Vision transformer ViT-B/32, augmented RGB images.

    python -m training run --recipe report/vit_b32 --data DIR --out runs/NAME

Batches of 64, 30 epochs of Adam, cross entropy; rotation, zoom, shear, shifts and flips. A transformer
wants pretrained weights: `--starting-weights vit_b32=FILE.weights.h5`; with none it learns from nothing
but these images, and little.

Differs: Keras has no weights of a ViT to download, so the recipe starts from a file or from nothing; the
head averages the patch tokens instead of reading a class token, which makes the heatmap exact; split by
lesion, not by image; the centre is cropped, not the image squashed; the best epoch by validation loss is
kept.

Published, on a split by image (it flatters): accuracy 0.85, precision 0.71, recall 0.80, F1 0.74.
Measured here: not trained here.
"""

from training.recipe import MemberRecipe, Recipe, VisionTransformer
from training.recipes.report._common import AUGMENTATION, PHASES

RECIPE = Recipe(
    name="report/vit_b32",
    members=(
        MemberRecipe(
            name="vit_b32",
            backbone=VisionTransformer(patch=32, depth=12, width=768, heads=12),
            phases=PHASES,
            starting_weights="none",
        ),
    ),
    batch_size=64,
    optimizer="adam",
    clip_norm=0.0,
    augmentation=AUGMENTATION,
)
