"""Plain mean of the probabilities of ResNet50, Xception and InceptionResNetV2.

    python -m training run --recipe report/ensemble_mean --data DIR --out runs/NAME

The three are trained as in report/resnet50, report/xception and report/inception_resnet_v2.

Differs: each member has a temperature fitted on validation; split by lesion, not by image; the centre is
cropped, not the image squashed; the best epochs by validation loss are kept.

Published, on a split by image (it flatters): F1 0.82.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipe import Recipe
from training.recipes.report._common import AUGMENTATION
from training.recipes.report.inception_resnet_v2 import RECIPE as INCEPTION_RESNET_V2
from training.recipes.report.resnet50 import RECIPE as RESNET50
from training.recipes.report.xception import RECIPE as XCEPTION

RECIPE = Recipe(
    name="report/ensemble_mean",
    members=tuple(
        replace(single.members[0], weight=1 / 3) for single in (RESNET50, XCEPTION, INCEPTION_RESNET_V2)
    ),
    batch_size=64,
    optimizer="adam",
    clip_norm=0.0,
    augmentation=AUGMENTATION,
)
