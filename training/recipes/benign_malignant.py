"""The report "Skin cancer MNIST: HAM10000, dermoscopy image analysis": benign or malignant.

Images of 224 × 224 pixels are divided by 255; augmentation balances the malignant class. The report does not
state these values, which are chosen here: batches of 32, the strength of the augmentation, and 15 epochs if
no number is given. Its published confusion matrix has 682, 48, 72 and 200 of 1,002 test images, at a
threshold of 0.5: accuracy 0.880, precision 0.806 and recall 0.735 of malignant.

Differences from the report: a softmax over two classes replaces the sigmoid, which is the same function of
the difference of two logits; akiec, bcc and mel are malignant, as in the service, while the report counts
mel and bcc only; every image is augmented, not only copies of malignant ones; the effect of balanced
sampling is removed from the probabilities; the split is by lesion, not by image; images are cropped at the
centre, not squashed. Centre loss, which did not work for the report, is left out.
"""

from dataclasses import replace
from typing import Any

from training.recipe import Augmentation, Block, Head, MemberRecipe, Phase, Recipe, ScratchCNN
from training.recipes.entry import Entry, Measured, Published

AUGMENTATION = Augmentation(flips=True, rotation=180.0, zoom=0.2, min_crop=0.8, shift=0.1)

_EPOCH_SIZE = 1.6
"""8,061 of the 10,015 images are benign; with as many malignant ones, an epoch has 1.6 times the data."""


def _recipe(name: str, member: MemberRecipe, optimizer: Any = "adam", **options: Any) -> Recipe:
    return Recipe(
        f"benign_malignant/{name}",
        (member,),
        task="malignancy",
        sampling_power=0.0,
        epoch_size=_EPOCH_SIZE,
        optimizer=optimizer,
        augmentation=AUGMENTATION,
        **{"clip_norm": 0.0} | options,
    )


def _phase(trainable: Any, learning_rate: float, epochs: int = 15) -> Phase:
    return Phase(trainable, epochs, learning_rate, schedule="constant", stop_patience=epochs)


def _scratch(name: str, backbone: ScratchCNN, dropout: float) -> MemberRecipe:
    return MemberRecipe(
        name=name,
        backbone=backbone,
        head=Head(pooling="flatten", hidden=(64,), dropout=dropout),
        phases=(_phase("all", 1e-3),),
        scaling="unit",
        starting_weights="none",
    )


def _variant(optimizer: Any, learning_rate: float, accuracy: float) -> Entry:
    """Return the entry of Inception v3 with another optimizer, trained for ten epochs."""
    member = replace(_INCEPTION_V3.members[0], phases=(_phase("head", learning_rate, epochs=10),))
    name = f"benign_malignant/inception_v3_{optimizer}"
    return Entry(
        replace(_INCEPTION_V3, name=name, members=(member,), optimizer=optimizer),
        f"Inception v3: ten epochs of a dense head with {optimizer}, to compare optimizers",
        f"The rate is {learning_rate:g}, Keras' default.",
        Published(accuracy=accuracy),
    )


_VGG16 = MemberRecipe(
    name="vgg16", backbone="vgg16", phases=(_phase("all", 1e-5, epochs=20),), scaling="unit"
)
_VGG19 = MemberRecipe(name="vgg19", backbone="vgg19", phases=(_phase("all", 1e-5),), scaling="unit")
_INCEPTION_V3 = _recipe(
    "inception_v3",
    MemberRecipe(
        name="inception_v3",
        backbone="inception_v3",
        head=Head(hidden=(256,), dropout=0.5),
        phases=(_phase("head", 1e-3), _phase(150, 1e-4, epochs=10)),
        scaling="unit",
    ),
    "nadam",
    weight_decay=1e-4,
    clip_norm=1.0,
)
_BASELINE = _scratch("cnn", ScratchCNN((Block(32),)), dropout=0.0)
_SCRATCH_1 = _scratch("scratch_1", ScratchCNN((Block(32), Block(32), Block(32)), pool_size=3), dropout=0.5)
_SCRATCH_2 = _scratch(
    "scratch_2",
    ScratchCNN((Block(16), Block(16)), pool_size=3, initializer="random_uniform"),
    dropout=0.3,
)

RECIPES = (
    Entry(
        _recipe("baseline", _BASELINE),
        "A CNN with one convolution: the report's baseline",
        "32 filters, a dense layer of 64 without dropout, rate 1e-3. No metric of it is known here.",
    ),
    Entry(
        _recipe("vgg16", _VGG16),
        "VGG16, all layers trained for 20 epochs: tried before VGG19",
        "As for VGG19.",
        Published(accuracy=0.85, remark="after about 20 epochs, with 0.97 on training data"),
    ),
    Entry(
        _recipe("vgg19", _VGG19),
        "VGG19, all layers trained",
        "Adam at 1e-5; the rate is low because the network has no batch normalisation.",
        Published(accuracy=0.85),
    ),
    Entry(
        _INCEPTION_V3,
        "Inception v3: 15 epochs of a dense head with Nadam, ten more with the last 150 layers unfrozen",
        "The rates are 1e-3, then 1e-4; the hidden layer has 256 units and dropout 0.5, and the weight decay "
        "is 1e-4. The global gradient norm is clipped at 1.",
        Published(accuracy=0.885, remark="after 15 epochs of the head 0.866"),
    ),
    _variant("nadam", 1e-3, accuracy=0.775),
    _variant("adam", 1e-3, accuracy=0.772),
    _variant("adamax", 1e-3, accuracy=0.758),
    _variant("sgd", 1e-2, accuracy=0.587),
    Entry(
        _recipe("scratch_1", _SCRATCH_1),
        "A CNN found by random search: three convolutions of 32, a dense layer of 64, Adam",
        "Dropout 0.5, rate 1e-3. `python -m training search` repeats such a search.",
        Published(accuracy=0.76),
    ),
    Entry(
        _recipe("scratch_2", _SCRATCH_2, "rmsprop"),
        "A CNN found by random search: two convolutions of 16, a dense layer of 64, RMSprop",
        "Uniform initialisation, dropout 0.3, rate 1e-3.",
        Published(accuracy=0.76),
        measured=(
            Measured(
                command="python -m training train --data HAM10000 --split "
                "models/ham10000-ensemble/split.csv --out runs/scratch_2 --recipe "
                "benign_malignant/scratch_2 --max-epochs 8",
                schedule="scratch_2: 8 of 15 epochs",
                split_by="lesion",
                images=1503,
                accuracy=(0.813, 0.7959, 0.8296),
                precision=(0.5682, 0.4516, 0.6908),
                recall=(0.1706, 0.1234, 0.2195),
            ),
        ),
    ),
    Entry(
        replace(
            _INCEPTION_V3,
            name="benign_malignant/ensemble",
            members=(_INCEPTION_V3.members[0], _SCRATCH_1, _SCRATCH_2),
            weighting="accuracy",
        ),
        "Inception v3 and both networks from scratch: a mean of probabilities weighted by accuracy on "
        "validation",
        "The report drops the first of four networks, taken to be VGG19. All three have the optimizer of "
        "Inception v3. To use the optimizer of each, train the three recipes on one split and take their "
        "networks with `--trained scratch_1=RUN` and so on.",
        Published(
            accuracy=0.882,
            precision=0.806,
            recall=0.735,
            remark="precision and recall of malignant, on 1,002 test images",
        ),
    ),
)
