"""The repository "Skin-Cancer-Classification-TL": small images, plain and pretrained networks.

Images of 100 × 125 pixels (height × width) whose age, sex and site are known, scaled by one mean and one
standard deviation of all training pixels; Adam, batches of 10, 50 epochs without early stopping. From CNN2
on, images are augmented, and the rate is halved after five epochs without a better validation accuracy, down
to 1e-5. The repository does not state these values, which are chosen here: the layers of the pretrained
networks' heads beside those named.

Differences from the repository: the split is by lesion, not by image; test images are scaled by the values of
the training pixels, not by their own; images are cropped at the centre, not squashed; the epoch with the best
validation accuracy is used; batch normalisation has the momentum 0.9.
"""

from dataclasses import replace
from typing import Any

from training.recipe import (
    Augmentation,
    Block,
    Head,
    MemberRecipe,
    Phase,
    Pixels,
    Pretrained,
    Recipe,
    ScratchCNN,
)
from training.recipes.entry import Entry, Measured, Published

_EPOCHS = 50
_AUGMENTATION = Augmentation(flips=True, rotation=10.0, zoom=0.1, shift=0.12)


def _recipe(name: str, member: MemberRecipe, **options: Any) -> Recipe:
    return Recipe(
        f"transfer_learning/{name}",
        (replace(member, scaling="z_score"),),
        image_size=(100, 125),
        batch_size=10,
        optimizer="adam",
        clip_norm=0.0,
        monitor="accuracy",
        known_metadata=True,
        **options,
    )


def _constant(learning_rate: float) -> Phase:
    """Return a phase with a constant rate and without early stopping."""
    return Phase("all", _EPOCHS, learning_rate, schedule="constant", stop_patience=_EPOCHS)


def _halved(trainable: Any, learning_rate: float, epochs: int = _EPOCHS) -> Phase:
    """Return a phase in which a plateau halves the rate, without early stopping."""
    return Phase(
        trainable,
        epochs,
        learning_rate,
        plateau_patience=5,
        plateau_factor=0.5,
        min_learning_rate=1e-5,
        stop_patience=epochs,
    )


def _pretrained(backbone: Pretrained) -> Recipe:
    return _recipe(
        backbone,
        MemberRecipe(name=backbone, backbone=backbone, head=Head(dropout=0.3), phases=(_halved(23, 1e-4),)),
        augmentation=_AUGMENTATION,
    )


_BASIC_NN = MemberRecipe(
    name="basic_nn",
    backbone=Pixels(),
    head=Head(pooling="flatten", hidden=(64, 64, 64, 64, 64), dropout=0.0),
    phases=(_constant(7.5e-4),),
    starting_weights="none",
)
_CNN = MemberRecipe(
    name="cnn",
    backbone=ScratchCNN((Block(32, dropout=0.15), Block(32, dropout=0.225), Block(32, dropout=0.3375))),
    head=Head(pooling="flatten", hidden=(256, 128), dropout=0.506),
    phases=(_constant(1e-4),),
    starting_weights="none",
)

RECIPES = (
    Entry(
        _recipe("basic_nn", _BASIC_NN),
        "A plain network of five dense layers on the pixels, no convolution",
        "Without a feature map, its heatmap consists of single pixels.",
        Published(accuracy=0.69, test_loss=2.02, validation_accuracy=0.72, minutes=15),
        measured=(
            Measured(
                command="python -m training train --data HAM10000 --split "
                "models/ham10000-ensemble/split.csv --out runs/basic_nn --recipe "
                "transfer_learning/basic_nn",
                schedule="basic_nn: 50 of 50 epochs",
                split_by="lesion",
                images=1452,
                accuracy=(0.7142, 0.6949, 0.734),
                macro_f1=(0.3674, 0.326, 0.4074),
                macro_precision=(0.463, 0.4167, 0.5187),
                macro_recall=(0.3549, 0.3125, 0.3955),
                weighted_f1=(0.661, 0.6355, 0.6866),
                f1_by_class=(0.38, 0.35, 0.319, 0.0, 0.218, 0.851, 0.455),
            ),
        ),
    ),
    Entry(
        _recipe("cnn1", _CNN),
        "A CNN of three blocks from scratch, with dropout increasing from 0.15 to 0.51",
        published=Published(accuracy=0.75, test_loss=1.06, validation_accuracy=0.76, minutes=58),
        measured=(
            Measured(
                command="python -m training train --data HAM10000 --split "
                "models/ham10000-ensemble/split.csv --out runs/cnn1 --recipe "
                "transfer_learning/cnn1 --max-epochs 15",
                schedule="cnn: 15 of 50 epochs",
                split_by="lesion",
                images=1452,
                accuracy=(0.7287, 0.7074, 0.7504),
                macro_f1=(0.4009, 0.359, 0.4446),
                macro_precision=(0.4501, 0.4016, 0.5089),
                macro_recall=(0.3752, 0.3385, 0.4163),
                weighted_f1=(0.7021, 0.6772, 0.7269),
                f1_by_class=(0.36, 0.37, 0.391, 0.0, 0.404, 0.869, 0.412),
            ),
        ),
    ),
    Entry(
        _recipe("cnn2", replace(_CNN, phases=(_halved("all", 1e-4),)), augmentation=_AUGMENTATION),
        "The CNN above with augmentation, the rate halved after five epochs without improvement",
        published=Published(accuracy=0.76, test_loss=0.65, validation_accuracy=0.77, minutes=58),
    ),
    Entry(
        _pretrained("mobilenet"),
        "MobileNet with its last 23 layers trained",
        published=Published(accuracy=0.81, test_loss=0.60, validation_accuracy=0.83, minutes=54),
    ),
    Entry(
        _pretrained("resnet50"),
        "ResNet50 with its last 23 layers trained",
        published=Published(accuracy=0.75, test_loss=0.78, validation_accuracy=0.77, minutes=217),
    ),
    Entry(
        _pretrained("densenet121"),
        "DenseNet121 with its last 23 layers trained",
        published=Published(accuracy=0.82, test_loss=0.57, validation_accuracy=0.81, minutes=135),
    ),
    Entry(
        _recipe(
            "mobilenet_enhanced",
            MemberRecipe(
                name="mobilenet",
                backbone="mobilenet",
                head=Head(batch_norm=True, dropout=0.5, l2=1e-3),
                phases=(_halved(50, 1e-3, epochs=500),),
            ),
            augmentation=replace(_AUGMENTATION, rotation=30.0, zoom=0.3),
        ),
        "MobileNet with its last 50 layers trained for 500 epochs, a regularised head, strong augmentation",
        "Rotation and zoom of 30 % are interpreted as 30° and 0.3.",
        Published(accuracy=0.83, test_loss=0.68, validation_accuracy=0.84, minutes=1092),
    ),
)
