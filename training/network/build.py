"""Builds the members' networks: image → (resizing) → scaling → backbone → features → head → logits.

Each network reads float32 ``[N, H, W, C]`` in [0, 255] and contains its scaling, so it cannot get pixels in
the wrong range. The layers between ``FEATURES`` and ``LOGITS`` are simple enough for a derivative by hand,
so Grad-CAM needs no backward pass (``training.export.gradcam``).
"""

from pathlib import Path
from typing import Any

import keras

from training.network.backbones import build_pretrained, build_scratch, build_vit, pretrained_scaling
from training.recipe import (
    Head,
    MemberRecipe,
    Phase,
    Pixels,
    RecipeError,
    ScratchCNN,
    VisionTransformer,
)

BACKBONE = "backbone"
FEATURES = "features"
LOGITS = "logits"
_BATCH_NORM_MOMENTUM = 0.9
"""Lower than Keras' default for MobileNetV2, 0.999, with which the moving statistics lag behind the weights
in short trainings: the training loss falls, but inference fails."""


def build_network(
    member: MemberRecipe,
    classes: int,
    *,
    size: tuple[int, int],
    channels: int = 3,
    statistics: tuple[float, float] | None = None,
    resize: bool = False,
) -> keras.Model:
    """Build an untrained network for ``member``, from images to logits ``[N, classes]``.

    The network takes images of any size unless ``fixed_size`` gives a reason against it. With
    ``starting_weights="imagenet"``, Keras downloads the backbone's weights.

    Args:
        member: the member to build.
        classes: number of classes.
        size: height and width of the images in pixels.
        channels: 3 for RGB, 1 for grey; pretrained backbones get a grey channel three times.
        statistics: mean and variance of the training pixels, for ``scaling="z_score"``.
        resize: whether the network scales images of any size to ``size``.

    Raises:
        RecipeError: the file of the starting weights is missing or does not fit the backbone.
    """
    backbone = _backbone(member, size, channels)
    free = resize or fixed_size(member) is None
    height, width = (None, None) if free else size
    inputs = keras.Input((height, width, channels), name="image")
    x = inputs
    if resize:
        x = keras.layers.Resizing(*size, interpolation="bilinear", name="resize")(x)
    if channels == 1 and isinstance(member.backbone, str | VisionTransformer):
        x = keras.layers.Concatenate(name="grey_to_rgb")([x, x, x])
    x = _scaled(x, member, statistics)
    if backbone is not None:
        x = backbone(x)
    x = keras.layers.Rescaling(member.feature_scale, name=FEATURES)(x)
    outputs = _head(x, member.head, classes)
    return keras.Model(inputs, outputs, name=member.name)


def fixed_size(member: MemberRecipe) -> str | None:
    """Return why the network of ``member`` takes one input size only, or None if it takes any."""
    if member.head.pooling == "flatten":
        return "its head is flattened"
    if isinstance(member.backbone, VisionTransformer):
        return "its positions are learnt"
    return None


def set_trainable(network: keras.Model, phase: Phase) -> None:
    """Freeze the backbone (``"head"``), nothing (``"all"``), or all but the backbone's last ``n`` layers.

    Keras runs frozen batch normalisation with its stored statistics.
    """
    if all(layer.name != BACKBONE for layer in network.layers):
        return
    backbone = network.get_layer(BACKBONE)
    backbone.trainable = True
    count = {"head": 0, "all": len(backbone.layers)}.get(str(phase.trainable), phase.trainable)
    for index, layer in enumerate(backbone.layers):
        layer.trainable = index >= len(backbone.layers) - int(count)


def _backbone(member: MemberRecipe, size: tuple[int, int], channels: int) -> keras.Model | None:
    kind = member.backbone
    if isinstance(kind, Pixels):
        return None
    if isinstance(kind, ScratchCNN):
        return build_scratch(kind, channels, name=BACKBONE)
    if isinstance(kind, VisionTransformer):
        if min(size) < kind.patch:
            raise RecipeError(
                f"{member.name}: images of {size} pixels are smaller than a patch of {kind.patch}"
            )
        if member.starting_weights == "imagenet":
            raise RecipeError(
                f"starting weights of {member.name}: Keras has none to download for a vision transformer; "
                "expected 'none' or a .weights.h5 file of the backbone"
            )
        backbone = build_vit(kind, size, name=BACKBONE)
    else:
        download = member.starting_weights == "imagenet"
        backbone = build_pretrained(kind, weights="imagenet" if download else None, name=BACKBONE)
    if member.starting_weights not in ("imagenet", "none"):
        _load_backbone(backbone, member)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = _BATCH_NORM_MOMENTUM
    return backbone


def _scaled(x: Any, member: MemberRecipe, statistics: tuple[float, float] | None) -> Any:
    if member.scaling == "backbone" and isinstance(member.backbone, str):
        return pretrained_scaling(member.backbone, x)
    if member.scaling == "z_score":
        # A plausible default, for networks whose saved weights will replace the statistics.
        mean, variance = statistics or (127.5, 64.0**2)
        return keras.layers.Normalization(axis=None, mean=mean, variance=variance, name="scale")(x)
    return keras.layers.Rescaling(1 / 255, name="scale")(x)


def _head(x: Any, head: Head, classes: int) -> Any:
    penalty = keras.regularizers.L2(head.l2) if head.l2 else None
    if head.pooling == "flatten":
        x = keras.layers.Flatten(name="pool")(x)
    else:
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    if head.batch_norm:
        x = keras.layers.BatchNormalization(momentum=_BATCH_NORM_MOMENTUM, name="head_norm")(x)
    for index, units in enumerate(head.hidden):
        name = f"hidden_{index}"
        x = keras.layers.Dense(units, activation="relu", kernel_regularizer=penalty, name=name)(x)
    x = keras.layers.Dropout(head.dropout, name="dropout")(x)
    # Softmax and loss need the range of float32 even with mixed precision.
    return keras.layers.Dense(classes, kernel_regularizer=penalty, name=LOGITS, dtype="float32")(x)


def _load_backbone(backbone: keras.Model, member: MemberRecipe) -> None:
    path = Path(member.starting_weights)
    if not path.is_file():
        raise RecipeError(
            f"starting weights of {member.name}: {path} not found; "
            "expected 'imagenet', 'none' or a .weights.h5 file of the backbone"
        )
    try:
        backbone.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise RecipeError(f"starting weights of {member.name}: {path} does not fit: {error}") from error
