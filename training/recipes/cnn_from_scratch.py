"""The report "Skin cancer classification using Keras": CNNs of growing depth from scratch.

Images of 100 × 75 pixels (width × height), Adam at 1e-4, batches of 32, up to 200 epochs. The rate is reduced
after 3 epochs without a better validation accuracy, and training stops after 10; the epoch with the best
accuracy is used. A block consists of two convolutions, max pooling and dropout, which increases from block to
block; a hidden layer with dropout 0.5 follows. The report does not state these values, which are chosen here:
the rate is multiplied by 0.3, and dropout increases by 0.1 per block. The report also tried SGD and RMSprop,
which did not exceed an accuracy of 0.68, and rates of 1e-3 and 1e-5.

Differences from the report: the split is by lesion, not by image; the effects of class weights and balanced
sampling are removed from the probabilities, which then hold at the prevalence of the training data.
"""

from dataclasses import replace

from training.recipe import Augmentation, Block, Head, MemberRecipe, Phase, Recipe, ScratchCNN
from training.recipes.entry import Entry, Measured, Published

_PHASE = Phase("all", epochs=200, learning_rate=1e-4, plateau_patience=3, stop_patience=10)


def _recipe(name: str, member: MemberRecipe) -> Recipe:
    return Recipe(
        f"cnn_from_scratch/{name}",
        (member,),
        image_size=(75, 100),
        batch_size=32,
        optimizer="adam",
        clip_norm=0.0,
        monitor="accuracy",
    )


def _cnn(name: str, *filters: int, hidden: int) -> Recipe:
    """Return a recipe whose network has one block for each number of filters."""
    blocks = tuple(
        Block(count, convolutions=2, dropout=round(0.1 * number, 1))
        for number, count in enumerate(filters, start=1)
    )
    head = Head(pooling="flatten", hidden=(hidden,), dropout=0.5)
    return _recipe(
        name, MemberRecipe("cnn", ScratchCNN(blocks), (_PHASE,), head=head, starting_weights="none")
    )


_PROPOSED = _cnn("proposed", 32, 64, 128, 256, hidden=512)
_INCEPTION_V3 = MemberRecipe(
    name="inception_v3",
    backbone="inception_v3",
    head=Head(pooling="flatten", hidden=(512, 256), dropout=0.5),
    phases=(replace(_PHASE, trainable="head"),),
)

RECIPES = (
    Entry(
        _cnn("base", 32, hidden=64),
        "One block of 32 filters, one hidden layer of 64",
        published=Published(accuracy=0.74, macro_f1=0.44),
        measured=(
            Measured(
                command="python -m training train --data HAM10000 --split "
                "models/ham10000-ensemble/split.csv --out runs/base --recipe "
                "cnn_from_scratch/base --max-epochs 20",
                schedule="cnn: 11 of 200 epochs",
                split_by="lesion",
                images=1503,
                accuracy=(0.6693, 0.656, 0.6812),
                macro_f1=(0.1146, 0.1132, 0.1158),
                macro_precision=(0.0956, 0.0937, 0.0973),
                macro_recall=(0.1429, 0.1429, 0.1429),
                weighted_f1=(0.5367, 0.5197, 0.552),
                f1_by_class=(0.0, 0.0, 0.0, 0.0, 0.0, 0.802, 0.0),
            ),
        ),
    ),
    Entry(
        _cnn("model_2", 32, 64, hidden=128),
        "Two blocks of 32 and 64, one hidden layer of 128",
        published=Published(accuracy=0.76, macro_f1=0.48),
    ),
    Entry(
        _cnn("model_3", 32, 64, 128, hidden=256),
        "Three blocks of 32 to 128, one hidden layer of 256",
        published=Published(accuracy=0.77, macro_f1=0.49),
    ),
    Entry(
        _PROPOSED,
        "The report's proposal: four blocks of 32 to 256, one hidden layer of 512",
        published=Published(
            accuracy=0.77, macro_f1=0.51, f1_by_class=(0.44, 0.55, 0.54, 0.17, 0.39, 0.90, 0.56)
        ),
    ),
    Entry(
        _cnn("model_5", 32, 64, 128, 256, 512, hidden=1024),
        "Five blocks of 32 to 512, one hidden layer of 1024",
        published=Published(accuracy=0.75, macro_f1=0.47),
    ),
    Entry(
        replace(_PROPOSED, name="cnn_from_scratch/proposed_class_weights", class_weight_power=1.0),
        "The proposal with class weights inverse to the class frequency",
        published=Published(
            accuracy=0.65, macro_f1=0.51, f1_by_class=(0.38, 0.50, 0.45, 0.27, 0.48, 0.80, 0.71)
        ),
    ),
    Entry(
        replace(
            _PROPOSED,
            name="cnn_from_scratch/proposed_oversampling",
            sampling_power=0.0,
            epoch_size=34_076 / 8_012,
            augmentation=Augmentation(flips=True, rotation=45.0, zoom=0.2, shift=0.1),
        ),
        "The proposal with equal sampling of all classes, and augmentation",
        "The report extends its 8,012 training images to 34,076 by augmented copies. Here, an epoch draws as "
        "many images after the split, equally from all classes, and augments each of them.",
        Published(accuracy=0.72, macro_f1=0.56, f1_by_class=(0.46, 0.54, 0.53, 0.34, 0.47, 0.86, 0.75)),
    ),
    Entry(
        _recipe("inception_v3", _INCEPTION_V3),
        "Inception v3 with its backbone frozen and two hidden layers: the report's negative result",
        "The two layers have 512 and 256 units. At this size, the smallest that the network takes, its "
        "feature map has a single cell, so the heatmap shows no location.",
        Published(accuracy=0.67, remark="nv for every image"),
    ),
)
