"""The report "Skin lesions classification: an efficient multi-class …": large networks, colour and grey.

Images of 224 × 224 pixels, batches of 64, 30 epochs of Adam without early stopping, cross entropy,
augmentation by rotation, zoom, shear, shifts and flips (the report tried colour augmentation and dropped
it). The report's curves of the loss begin at 5.70 and end near 2, so a penalty is in it; here it is 0.01
times the squared weights of the dense layer. The report does not state these values either, which are chosen
here: all layers are trained, the learning rate is 1e-4, the strength of the augmentation, dropout 0.3 before
the dense layer. A model for grey images reads one channel (ITU-R 601-2 luma), which the backbone gets three
times.

Differences from the report: the split is by lesion, not by image; images are cropped at the centre, not
squashed; the epoch with the best validation loss is used; the members of an ensemble have temperatures fitted
on validation data.
"""

from dataclasses import replace

from training.recipe import Augmentation, Head, MemberRecipe, Phase, Pretrained, Recipe, VisionTransformer
from training.recipes.entry import Entry, Published

_PHASES = (Phase("all", epochs=30, learning_rate=1e-4, schedule="constant", stop_patience=30),)
_HEAD = Head(l2=0.01)


def _recipe(name: str, *members: MemberRecipe) -> Recipe:
    return Recipe(
        f"three_networks/{name}",
        members,
        batch_size=64,
        optimizer="adam",
        clip_norm=0.0,
        augmentation=Augmentation(flips=True, rotation=20.0, zoom=0.1, shear=10.0, shift=0.1),
    )


def _single(backbone: Pretrained) -> Recipe:
    return _recipe(backbone, MemberRecipe(name=backbone, backbone=backbone, phases=_PHASES, head=_HEAD))


def _grey(recipe: Recipe) -> Recipe:
    return replace(recipe, name=f"{recipe.name}_grey", color="grey")


_RESNET50, _XCEPTION = _single("resnet50"), _single("xception")
_INCEPTION_RESNET_V2 = _single("inception_resnet_v2")
_VIT_B32 = _recipe(
    "vit_b32",
    MemberRecipe(
        name="vit_b32",
        backbone=VisionTransformer(patch=32, depth=12, width=768, heads=12),
        phases=_PHASES,
        head=_HEAD,
        starting_weights="none",
    ),
)
_ALL = _RESNET50.members[0]
_MEAN = _recipe(
    "ensemble_mean",
    *(replace(single.members[0], weight=1 / 3) for single in (_RESNET50, _XCEPTION, _INCEPTION_RESNET_V2)),
)
_VOTE = replace(_MEAN, name="three_networks/ensemble_vote", combination="vote")
_LESS_GAIN = Published(remark="a smaller gain over its members than in colour")

RECIPES = (
    Entry(
        _RESNET50,
        "ResNet50, augmented RGB images",
        published=Published(accuracy=0.89, precision=0.77, recall=0.81, f1=0.79),
    ),
    Entry(
        _grey(_RESNET50),
        "ResNet50 on grey images",
        published=Published(accuracy=0.81, precision=0.63, recall=0.74, f1=0.67),
    ),
    Entry(
        _XCEPTION,
        "Xception, augmented RGB images",
        published=Published(accuracy=0.87, precision=0.75, recall=0.82, f1=0.78),
    ),
    Entry(
        _grey(_XCEPTION),
        "Xception on grey images",
        published=Published(accuracy=0.80, precision=0.61, recall=0.71, f1=0.66),
    ),
    Entry(
        _INCEPTION_RESNET_V2,
        "InceptionResNetV2, augmented RGB images",
        published=Published(accuracy=0.85, precision=0.74, recall=0.78, f1=0.76),
    ),
    Entry(
        _grey(_INCEPTION_RESNET_V2),
        "InceptionResNetV2 on grey images",
        published=Published(accuracy=0.83, precision=0.67, recall=0.73, f1=0.70),
    ),
    Entry(
        _single("vgg19"),
        "VGG19, augmented RGB images",
        published=Published(accuracy=0.73, precision=0.57, recall=0.69, f1=0.61),
    ),
    Entry(
        replace(_RESNET50, name="three_networks/resnet50_no_augmentation", augmentation=Augmentation()),
        "ResNet50 without augmentation",
        published=Published(accuracy=0.87, precision=0.77, recall=0.78, f1=0.76),
    ),
    Entry(
        replace(_RESNET50, name="three_networks/resnet50_lower_extremity", sites=("lower extremity",)),
        "ResNet50 for lesions of the lower extremity only: about a fifth of the data",
        "Trained and evaluated on images with exactly this localization.",
        Published(accuracy=0.88, precision=0.80, recall=0.79, f1=0.79),
    ),
    Entry(
        _VIT_B32,
        "Vision transformer ViT-B/32, augmented RGB images",
        "Keras offers no weights of a ViT. The network starts from a file "
        "(`--starting-weights vit_b32=FILE.weights.h5`) or from random weights, with which it learns little. "
        "The head averages the patch tokens instead of using a class token, so the heatmap is exact.",
        Published(accuracy=0.85, precision=0.71, recall=0.80, f1=0.74),
    ),
    Entry(
        _grey(_VIT_B32),
        "ViT-B/32 on grey images",
        published=Published(accuracy=0.71, precision=0.49, recall=0.67, f1=0.53),
    ),
    Entry(
        _MEAN,
        "Plain mean of the probabilities of ResNet50, Xception and InceptionResNetV2",
        published=Published(f1=0.82),
    ),
    Entry(
        _VOTE,
        "Majority vote of ResNet50, Xception and InceptionResNetV2; on a tie the first label wins",
        published=Published(f1=0.81),
    ),
    Entry(_grey(_MEAN), "The mean of the same three networks on grey images", published=_LESS_GAIN),
    Entry(_grey(_VOTE), "The majority vote of the same three networks on grey images", published=_LESS_GAIN),
    Entry(
        replace(
            _RESNET50,
            name="three_networks/mix_model",
            members=(
                _ALL,
                replace(_ALL, name="mel_nv", classes=("mel", "nv")),
                replace(_ALL, name="akiec_bcc", classes=("akiec", "bcc")),
                replace(_ALL, name="mel_bkl", classes=("mel", "bkl")),
            ),
            combination="specialists",
        ),
        "Mix model: ResNet50, with specialists that decide between mel/nv, akiec/bcc and mel/bkl",
        "Each specialist is trained on images of its two classes only. Whenever the first network says mel, "
        "mel/nv or mel/bkl decides: the one whose other class is more probable. A specialist also decides "
        "whenever its classes are the two most probable ones, and akiec/bcc whenever the first network says "
        "akiec. The report states only that the specialists decide again where the first network says "
        "melanoma.",
        Published(accuracy=0.89, precision=0.78, recall=0.85, f1=0.81),
    ),
)
