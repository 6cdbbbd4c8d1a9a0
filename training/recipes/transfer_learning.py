"""The repository "Skin-Cancer-Classification-TL": small images, plain and pretrained networks.

Images of 100 × 125 pixels (height × width), scaled by mean and standard deviation of the training pixels,
Adam, batches of 10, 50 epochs without early stopping. The repository does not state these values, which are
chosen
here: the rate is constant unless stated otherwise, and the layers of the pretrained networks' heads beside
those named.

Differences from the repository: the split is by lesion, not by image; rows with unknown metadata are used;
images are cropped at the centre, not squashed; the epoch with the best validation loss is used; batch
normalisation has the momentum 0.9.
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
from training.recipes.entry import Entry, Published

_EPOCHS = 50


def _recipe(name: str, member: MemberRecipe, **options: Any) -> Recipe:
    return Recipe(
        f"transfer_learning/{name}",
        (replace(member, scaling="z_score"),),
        image_size=(100, 125),
        batch_size=10,
        optimizer="adam",
        clip_norm=0.0,
        **options,
    )


def _constant(trainable: Any, learning_rate: float, epochs: int = _EPOCHS) -> Phase:
    """Return a phase with a constant rate and without early stopping."""
    return Phase(trainable, epochs, learning_rate, schedule="constant", stop_patience=epochs)


def _pretrained(backbone: Pretrained) -> Recipe:
    return _recipe(
        backbone,
        MemberRecipe(name=backbone, backbone=backbone, head=Head(dropout=0.3), phases=(_constant(23, 1e-4),)),
    )


_BASIC_NN = MemberRecipe(
    name="basic_nn",
    backbone=Pixels(),
    head=Head(pooling="flatten", hidden=(64, 64, 64, 64, 64), dropout=0.0),
    phases=(_constant("all", 7.5e-4),),
    starting_weights="none",
)
_CNN = MemberRecipe(
    name="cnn",
    backbone=ScratchCNN((Block(32, dropout=0.15), Block(32, dropout=0.25), Block(32, dropout=0.34))),
    head=Head(pooling="flatten", hidden=(256, 128), dropout=0.0),
    phases=(_constant("all", 1e-3),),
    starting_weights="none",
)
_HALVED = Phase(
    "all", _EPOCHS, learning_rate=1e-3, plateau_patience=5, plateau_factor=0.5, stop_patience=_EPOCHS
)

RECIPES = (
    Entry(
        _recipe("basic_nn", _BASIC_NN),
        "A plain network of five dense layers on the pixels, no convolution",
        "Without a feature map, its heatmap consists of single pixels.",
        Published(accuracy=0.69, test_loss=2.02, validation_accuracy=0.72, minutes=15),
    ),
    Entry(
        _recipe("cnn1", _CNN),
        "A CNN of three blocks from scratch, with dropout increasing from 0.15 to 0.34",
        "The middle dropout is 0.25 and the rate is Adam's default, 1e-3.",
        Published(accuracy=0.75, test_loss=1.06, validation_accuracy=0.76, minutes=58),
    ),
    Entry(
        _recipe(
            "cnn2",
            replace(_CNN, phases=(_HALVED,)),
            augmentation=Augmentation(flips=True, rotation=10.0, zoom=0.1, shift=0.12),
        ),
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
                phases=(_constant(50, 1e-3, epochs=500),),
            ),
            augmentation=Augmentation(rotation=30.0, zoom=0.3),
        ),
        "MobileNet with its last 50 layers trained for 500 epochs, a regularised head, strong augmentation",
        "Rotation and zoom of 30 % are interpreted as 30° and 0.3.",
        Published(accuracy=0.83, test_loss=0.68, validation_accuracy=0.84, minutes=1092),
    ),
)
