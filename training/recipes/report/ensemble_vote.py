"""Majority vote of ResNet50, Xception and InceptionResNetV2; on a tie the first label wins.

    python -m training run --recipe report/ensemble_vote --data DIR --out runs/NAME

The members of report/ensemble_mean; the label is the one that most of them find most probable.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the best epochs by
validation loss are kept.

Published, on a split by image (it flatters): F1 0.81.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipes.report.ensemble_mean import RECIPE as ENSEMBLE_MEAN

RECIPE = replace(ENSEMBLE_MEAN, name="report/ensemble_vote", combination="vote")
