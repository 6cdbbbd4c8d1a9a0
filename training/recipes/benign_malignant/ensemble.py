"""Benign or malignant by four networks: a mean of probabilities weighted by accuracy.

    python -m training run --recipe benign_malignant/ensemble --data DIR --out runs/NAME

VGG19, Inception v3 and the two networks from the random search; the weights are in proportion to accuracy
on validation (the report took the best three or four models).

Differs: one optimizer for all four, that of Inception v3. Train the four recipes on one split and take
their networks with `--trained vgg19=RUN` and so on to keep each its own. A softmax of two classes for the
sigmoid; akiec counts as malignant, too, as in the service; split by lesion, not by image; the centre is
cropped, not the image squashed; all images are augmented.

Published, on a split by image (it flatters): accuracy 0.882; on 1,002 test images precision 0.806 and
recall 0.735 for malignant.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipes.benign_malignant.inception_v3 import RECIPE as INCEPTION_V3
from training.recipes.benign_malignant.scratch_1 import RECIPE as SCRATCH_1
from training.recipes.benign_malignant.scratch_2 import RECIPE as SCRATCH_2
from training.recipes.benign_malignant.vgg19 import RECIPE as VGG19

RECIPE = replace(
    INCEPTION_V3,
    name="benign_malignant/ensemble",
    members=(VGG19.members[0], INCEPTION_V3.members[0], SCRATCH_1.members[0], SCRATCH_2.members[0]),
    weighting="accuracy",
)
