"""Backbones: networks from scaled images ``[N, H, W, C]`` to feature maps ``[N, h, w, k]``."""

from typing import Any, Literal

import keras
from keras import layers, ops

from training.recipe import Pretrained, ScratchCNN, VisionTransformer

_BUILDERS = {
    "densenet121": keras.applications.DenseNet121,
    "efficientnet_b0": keras.applications.EfficientNetB0,
    "efficientnet_b1": keras.applications.EfficientNetB1,
    "inception_resnet_v2": keras.applications.InceptionResNetV2,
    "inception_v3": keras.applications.InceptionV3,
    "mobilenet": keras.applications.MobileNet,
    "mobilenet_v2": keras.applications.MobileNetV2,
    "resnet50": keras.applications.ResNet50,
    "vgg16": keras.applications.VGG16,
    "vgg19": keras.applications.VGG19,
    "xception": keras.applications.Xception,
}
_IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)
_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build_pretrained(kind: Pretrained, *, weights: Literal["imagenet"] | None, name: str) -> keras.Model:
    """Build a backbone of ``keras.applications`` without its classifier, for RGB images of any size."""
    return _BUILDERS[kind](include_top=False, weights=weights, input_shape=(None, None, 3), name=name)


def pretrained_scaling(kind: Pretrained, images: Any) -> Any:
    """Scale pixels in [0, 255] to the range that ``kind`` expects, as its ``preprocess_input`` does."""
    if kind.startswith("efficientnet"):  # contains its own scaling
        return images
    if kind in ("resnet50", "vgg16", "vgg19"):  # Caffe's format: BGR, mean subtracted
        mean = list(_IMAGENET_MEAN_BGR)
        return layers.Normalization(mean=mean, variance=[1.0] * 3, name="scale")(ops.flip(images, axis=-1))
    if kind == "densenet121":
        mean = [255 * value for value in _IMAGENET_MEAN]
        variance = [(255 * value) ** 2 for value in _IMAGENET_DEVIATION]
        return layers.Normalization(mean=mean, variance=variance, name="scale")(images)
    return layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(images)


def build_scratch(kind: ScratchCNN, channels: int, *, name: str) -> keras.Model:
    """Build blocks of ReLU convolutions and pooling, for images of any size."""
    inputs = x = keras.Input((None, None, channels))
    pooling = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}[kind.pooling]
    for block in kind.blocks:
        for _ in range(block.convolutions):
            x = layers.Conv2D(
                block.filters,
                kind.kernel,
                padding="same",
                activation="relu",
                kernel_initializer=kind.initializer,
            )(x)
        x = pooling(kind.pool_size)(x)
        if block.dropout:
            x = layers.Dropout(block.dropout)(x)
    return keras.Model(inputs, x, name=name)


def build_vit(kind: VisionTransformer, size: tuple[int, int], *, name: str) -> keras.Model:
    """Build a vision transformer for RGB images of ``size``; its feature map consists of the patch tokens.

    There is no class token; the head averages the tokens. This is as accurate (Beyer et al., "Better plain
    ViT baselines for ImageNet-1k", 2022) and makes the class activation map exact, because the head is linear
    in every token.
    """
    rows, columns = size[0] // kind.patch, size[1] // kind.patch
    inputs = keras.Input((*size, 3))
    # "valid" padding drops incomplete patches at the lower and the right border.
    x = layers.Conv2D(kind.width, kind.patch, strides=kind.patch, padding="valid", name="patches")(inputs)
    x = layers.Reshape((rows * columns, kind.width))(x)
    x = Positions(name="positions")(x)
    for _ in range(kind.depth):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.MultiHeadAttention(kind.heads, kind.width // kind.heads)(y, y)
        x = layers.Add()([x, y])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(4 * kind.width, activation=gelu)(y)
        x = layers.Add()([x, layers.Dense(kind.width)(y)])
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    return keras.Model(inputs, layers.Reshape((rows, columns, kind.width))(x), name=name)


@keras.saving.register_keras_serializable("dermaserve")
def gelu(x: Any) -> Any:
    """Exact Gaussian error linear unit; TensorFlow's own uses erfc, which ONNX lacks."""
    return 0.5 * x * (1.0 + ops.erf(x / 2**0.5))


@keras.saving.register_keras_serializable("dermaserve")
class Positions(layers.Layer):
    """Adds a learnt position embedding to the tokens ``[N, tokens, width]``."""

    def build(self, shape: tuple[int | None, int, int]) -> None:
        """Create the embedding."""
        initializer = keras.initializers.RandomNormal(stddev=0.02)
        self.vectors = self.add_weight(shape=shape[1:], initializer=initializer, name="vectors")

    def call(self, tokens: Any) -> Any:
        """Return the tokens plus the embedding."""
        return tokens + self.vectors
