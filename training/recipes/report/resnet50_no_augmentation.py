"""ResNet50 as in report/resnet50, without augmentation.

    python -m training run --recipe report/resnet50_no_augmentation --data DIR --out runs/NAME

Every image is seen as it is, in every epoch.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the best epoch by
validation loss is kept.

Published, on a split by image (it flatters): accuracy 0.87, precision 0.77, recall 0.78, F1 0.76.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipe import Augmentation
from training.recipes.report.resnet50 import RECIPE as RESNET50

RECIPE = replace(RESNET50, name="report/resnet50_no_augmentation", augmentation=Augmentation())
