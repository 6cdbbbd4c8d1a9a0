"""Xception as in report/xception, on grey images.

    python -m training run --recipe report/xception_grey --data DIR --out runs/NAME

The model reads one grey channel (ITU-R 601-2 luma) and shows it to the backbone three times.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the best epoch by
validation loss is kept.

Published, on a split by image (it flatters): accuracy 0.80, precision 0.61, recall 0.71, F1 0.66.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipes.report.xception import RECIPE as XCEPTION

RECIPE = replace(XCEPTION, name="report/xception_grey", color="grey")
