"""ViT-B/32 as in report/vit_b32, on grey images.

    python -m training run --recipe report/vit_b32_grey --data DIR --out runs/NAME

The model reads one grey channel (ITU-R 601-2 luma) and shows it to the backbone three times.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the best epoch by
validation loss is kept.

Published, on a split by image (it flatters): accuracy 0.71, precision 0.49, recall 0.67, F1 0.53.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipes.report.vit_b32 import RECIPE as VIT_B32

RECIPE = replace(VIT_B32, name="report/vit_b32_grey", color="grey")
