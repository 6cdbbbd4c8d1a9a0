"""The deck "Skin cancer classification": MobileNetV2 and EfficientNet with focal loss, and their mean.

Images of 224 × 224 pixels. The focal loss has class weights inverse to the class frequency, and gamma 1.5,
which the deck calls reduced. For its first focal models it states none; here they have 2, Keras' default. The
deck lists data augmentation as a training step. It does not state these values, which are chosen here: flips,
rotation up to 20°, zoom and shifts up to 10 %; Adam, batches of 32, dropout 0.3 before the dense layer.

Differences from the deck: the split is by lesion, not by image; images are cropped at the centre, not
squashed; the epoch with the best validation loss is used; batch normalisation has the momentum 0.9, because
0.999 lags behind in short trainings; each member has a temperature fitted on validation data, and the effect
of the class weights is removed from its probabilities, which then hold at the prevalence of the training
data.
"""

from dataclasses import replace
from typing import Any

from training.recipe import Augmentation, Block, Head, MemberRecipe, Phase, Pretrained, Recipe, ScratchCNN
from training.recipes.entry import Entry, Measured, Published

_HEAD = Phase("head", epochs=10, learning_rate=1e-4, schedule="constant")
"""Ten epochs with the frozen ImageNet backbone."""

_FIRST_FOCAL: dict[str, Any] = {"focal_gamma": 2.0, "class_weight_power": 1.0}
_FOCAL = _FIRST_FOCAL | {"focal_gamma": 1.5}


def _recipe(name: str, *members: MemberRecipe, **options: Any) -> Recipe:
    return Recipe(
        f"mobilenet_efficientnet/{name}",
        members,
        optimizer="adam",
        clip_norm=0.0,
        augmentation=Augmentation(flips=True, rotation=20.0, zoom=0.1, shift=0.1),
        **options,
    )


def _network(backbone: Pretrained, *phases: Phase) -> MemberRecipe:
    return MemberRecipe(name=backbone, backbone=backbone, phases=phases)


_BASELINE = MemberRecipe(
    name="cnn",
    backbone=ScratchCNN((Block(32), Block(64), Block(128))),
    head=Head(pooling="flatten", hidden=(128,), dropout=0.5),
    phases=(Phase("all", epochs=20, learning_rate=1e-3),),
    starting_weights="none",
)
_MOBILENET_V2 = _network("mobilenet_v2", _HEAD, Phase(54, epochs=10, learning_rate=1e-5, schedule="constant"))
_FINE_TUNED = _network("mobilenet_v2", _HEAD, Phase(100, epochs=60, learning_rate=5e-5))
# The patience equals the number of epochs, so there is no early stopping.
_SIXTY = _network("mobilenet_v2", _HEAD, Phase(54, epochs=50, learning_rate=1e-4, stop_patience=50))
_B0 = _network(
    "efficientnet_b0", Phase(100, epochs=30, learning_rate=1e-4, schedule="constant", stop_patience=30)
)
_B1_PHASE = Phase(100, epochs=70, learning_rate=1e-4, schedule="constant", stop_patience=10)
_B1 = _network("efficientnet_b1", _B1_PHASE)
_FIRST_B1 = _network("efficientnet_b1", replace(_B1_PHASE, learning_rate=1e-5, stop_patience=3))
_ENSEMBLE = _recipe("ensemble", replace(_FINE_TUNED, weight=0.6), replace(_B1, weight=0.4), **_FOCAL)

RECIPES = (
    Entry(
        _recipe("baseline_cnn", _BASELINE),
        "A small CNN without pretrained weights: the deck's baseline",
        "Three blocks, one hidden layer and 20 epochs; the deck states only the accuracy of this network.",
        Published(accuracy=0.7066),
    ),
    Entry(
        _recipe("mobilenet_v2", _MOBILENET_V2),
        "MobileNetV2: ten epochs with the backbone frozen, then its last layers unfrozen",
        "The last 54 of 154 layers (from layer 100, as in Keras' tutorial) are unfrozen for ten more "
        "epochs at a tenth of the rate.",
        Published(accuracy=0.7665, macro_f1=0.437, macro_recall=0.38, weighted_f1=0.728),
        measured=(
            Measured(
                command="python -m training train --data HAM10000 --split "
                "models/ham10000-ensemble/split.csv --out runs/mobilenet_v2 --recipe "
                "mobilenet_efficientnet/mobilenet_v2 --starting-weights "
                "mobilenet_v2=mobilenet_v2.weights.h5",
                schedule="mobilenet_v2: 10 of 10 and 10 of 10 epochs",
                split_by="lesion",
                images=1503,
                accuracy=(0.7745, 0.7539, 0.796),
                macro_f1=(0.5036, 0.4577, 0.5536),
                macro_precision=(0.6542, 0.4767, 0.7006),
                macro_recall=(0.4913, 0.4506, 0.5319),
                weighted_f1=(0.7551, 0.7312, 0.7779),
                f1_by_class=(0.27, 0.558, 0.553, 0.105, 0.407, 0.897, 0.735),
            ),
        ),
    ),
    Entry(
        _recipe("mobilenet_v2_focal", _MOBILENET_V2, **_FIRST_FOCAL),
        "MobileNetV2 as above, with focal loss and class weights",
        "Gamma 2.",
        Published(accuracy=0.6926, macro_f1=0.534, macro_recall=0.63, weighted_f1=0.722),
    ),
    Entry(
        _recipe("mobilenet_v2_60_epochs", _SIXTY, **_FOCAL),
        "MobileNetV2 with focal loss for 60 epochs, the learning rate reduced on a plateau",
        'The deck only calls the rate "dynamic"; it is multiplied by 0.3 after three epochs without '
        "improvement.",
        Published(accuracy=0.7265, macro_f1=0.528, macro_recall=0.61, weighted_f1=0.749),
    ),
    Entry(
        _recipe("mobilenet_v2_fine_tuned", _FINE_TUNED, **_FOCAL),
        "MobileNetV2 with deeper layers unfrozen, a lower rate and early stopping",
        "The last 100 layers at 5e-5, reduced on a plateau, stopped after ten epochs without improvement.",
        Published(accuracy=0.7658, macro_f1=0.599, macro_recall=0.59, weighted_f1=0.775),
    ),
    Entry(
        _recipe("efficientnet_b0_frozen", _network("efficientnet_b0", _HEAD), **_FIRST_FOCAL),
        "EfficientNetB0 with its backbone frozen and focal loss, ten epochs",
        "Gamma 2.",
        Published(accuracy=0.5662, macro_f1=0.341, macro_recall=0.45, weighted_f1=0.618),
    ),
    Entry(
        _recipe("efficientnet_b0", _B0, **_FOCAL),
        "EfficientNetB0 with its last 100 layers unfrozen, 30 epochs",
        published=Published(accuracy=0.6560, macro_f1=0.510, macro_recall=0.56, weighted_f1=0.689),
    ),
    Entry(
        _recipe("efficientnet_b1_first", _FIRST_B1, **_FOCAL),
        "EfficientNetB1, the deck's first attempt: a lower rate, stopped after three epochs without gain",
        "The layers and the largest number of epochs are those of `efficientnet_b1`.",
        Published(remark="tried without result"),
    ),
    Entry(
        _recipe("efficientnet_b1", _B1, **_FOCAL),
        "EfficientNetB1 with its last 100 layers unfrozen, up to 70 epochs, early stopping",
        'Training stops after ten epochs without improvement. The deck says "callback 55", which may be the '
        "epoch in which training stopped or the patience.",
        Published(accuracy=0.7658),
    ),
    Entry(
        _ENSEMBLE,
        "MobileNetV2 0.6 and EfficientNetB1 0.4: the weighted mean of their probabilities",
        "The members are those of `mobilenet_v2_fine_tuned` and `efficientnet_b1`.",
        Published(
            accuracy=0.7645,
            macro_f1=0.639,
            macro_recall=0.66,
            weighted_f1=0.778,
            f1_by_class=(0.46, 0.71, 0.57, 0.56, 0.48, 0.88, 0.80),
        ),
    ),
    Entry(
        replace(_ENSEMBLE, name="mobilenet_efficientnet/ensemble_accuracy", weighting="accuracy"),
        "The ensemble, with weights proportional to accuracy on validation data",
        "Not in the deck: the rule of `benign_malignant/ensemble`.",
    ),
    Entry(
        replace(_ENSEMBLE, name="mobilenet_efficientnet/ensemble_grid", weighting="grid"),
        "The ensemble, with weights from a coarse grid on validation data",
        "The deck names a grid search as future work. The grid is coarse to avoid overfitting the validation "
        "data.",
    ),
)
