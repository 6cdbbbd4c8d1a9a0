"""Mix model: ResNet50 for all classes, then specialists for mel/nv, akiec/bcc and mel/bkl decide again.

    python -m training run --recipe report/mix_model --data DIR --out runs/NAME

Four ResNet50, trained as in report/resnet50; each specialist on images of its two classes alone. It is
asked where the first network's two most probable classes are its own.

Differs: split by lesion, not by image; the centre is cropped, not the image squashed; the best epochs by
validation loss are kept.

Published, on a split by image (it flatters): accuracy 0.89, precision 0.78, recall 0.85, F1 0.81.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipes.report.resnet50 import RECIPE as RESNET50

_ALL = RESNET50.members[0]

RECIPE = replace(
    RESNET50,
    name="report/mix_model",
    members=(
        _ALL,
        replace(_ALL, name="mel_nv", classes=("mel", "nv")),
        replace(_ALL, name="akiec_bcc", classes=("akiec", "bcc")),
        replace(_ALL, name="mel_bkl", classes=("mel", "bkl")),
    ),
    combination="specialists",
)
