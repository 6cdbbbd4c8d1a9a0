"""InceptionResNetV2 as in report/inception_resnet_v2, on grey images.

    python -m training run --recipe report/inception_resnet_v2_grey --data DIR --out runs/NAME

The model reads one grey channel (ITU-R 601-2 luma) and shows it to the backbone three times.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the best epoch by
validation loss is kept.

Published, on a split by image (it flatters): accuracy 0.83, precision 0.67, recall 0.73, F1 0.70.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipes.report.inception_resnet_v2 import RECIPE as INCEPTION_RESNET_V2

RECIPE = replace(INCEPTION_RESNET_V2, name="report/inception_resnet_v2_grey", color="grey")
