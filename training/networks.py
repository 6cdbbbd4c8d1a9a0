"""The members' networks.

Each reads float32 ``[N, H, W, 3]`` in [0, 255] and has its own scaling inside, so that a network
cannot be fed the wrong range; each ends in global average pooling → dropout → one dense layer, so
that Grad-CAM needs no backward pass (see ``training.export``).
"""

from pathlib import Path

import keras

from training.recipe import MemberRecipe, Phase, RecipeError

FEATURES = "features"
LOGITS = "logits"
_BATCH_NORM_MOMENTUM = 0.9
"""Keras' default for MobileNetV2, 0.999, lags far behind the weights in short trainings: inference
with the moving statistics falls apart while the training loss looks fine."""


def build_network(member: MemberRecipe, classes: int) -> keras.Model:
    """An untrained network for ``member``: images in, unnormalised logits ``[N, classes]`` out.

    Spatial size is free. The layer ``FEATURES`` holds the last feature map and ``LOGITS`` the
    dense layer. With ``starting_weights="imagenet"`` Keras downloads the backbone's weights.

    Raises:
        RecipeError: the starting weights' file is missing or does not fit.
    """
    download = member.starting_weights == "imagenet"
    builder = {
        "mobilenet_v2": keras.applications.MobileNetV2,
        "efficientnet_b1": keras.applications.EfficientNetB1,
    }[member.backbone]
    backbone = builder(
        include_top=False,
        weights="imagenet" if download else None,
        input_shape=(None, None, 3),
        name="backbone",
    )
    if not download and member.starting_weights != "none":
        _load_backbone(backbone, member)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = _BATCH_NORM_MOMENTUM
    inputs = keras.Input((None, None, 3), name="image")
    x = inputs
    if member.backbone == "mobilenet_v2":  # EfficientNet scales inside its own graph
        x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(x)
    x = keras.layers.Rescaling(member.feature_scale, name=FEATURES)(backbone(x))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(member.dropout, name="dropout")(x)
    # float32 even under mixed precision: the softmax and the loss need the range.
    outputs = keras.layers.Dense(classes, name=LOGITS, dtype="float32")(x)
    return keras.Model(inputs, outputs, name=member.name)


def set_trainable(network: keras.Model, phase: Phase) -> None:
    """Freeze the backbone (``"head"``), nothing (``"all"``), or all but its last ``n`` layers.

    Frozen batch normalisation runs on its stored statistics, as Keras defines it.
    """
    backbone = network.get_layer("backbone")
    backbone.trainable = True
    count = {"head": 0, "all": len(backbone.layers)}.get(str(phase.trainable), phase.trainable)
    for index, layer in enumerate(backbone.layers):
        layer.trainable = index >= len(backbone.layers) - int(count)


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
