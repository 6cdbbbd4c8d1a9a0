"""ResNet50 as in report/resnet50, on grey images.

    python -m training run --recipe report/resnet50_grey --data DIR --out runs/NAME

The model reads one grey channel (ITU-R 601-2 luma) and shows it to the backbone three times.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the best epoch by
validation loss is kept.

Published, on a split by image (it flatters): accuracy 0.81, precision 0.63, recall 0.74, F1 0.67.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipes.report.resnet50 import RECIPE as RESNET50

RECIPE = replace(RESNET50, name="report/resnet50_grey", color="grey")
