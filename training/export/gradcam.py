"""Grad-CAM of a network's head, computed by operations of the forward graph.

Grad-CAM (Selvaraju et al., ICCV 2017, eq. 1 and 2) is ReLU(Σ_k α_k A^k), where α_k is the spatial mean of
∂y_c/∂A^k and y_c is the logit. The heads of ``training.network.build`` (pooling, batch normalisation, ReLU
layers, one dense layer) are piecewise linear. The derivative is therefore a product of their matrices, with
the rows of inactive units set to zero. It is exact and needs no backward pass in the service.

With global average pooling and one dense layer, α_k = W_kc / (h·w) is the same for every image, and the map
is the class activation map of Zhou et al. (CVPR 2016) divided by h·w.
"""

from typing import Any

import keras
import tensorflow as tf

from training.network.build import FEATURES, LOGITS


class HeadGraph:
    """A trained network, split at its last feature map, as TensorFlow operations."""

    def __init__(self, network: keras.Model) -> None:
        features = network.get_layer(FEATURES)
        self._features = keras.Model(network.input, features.output)
        after = network.layers[network.layers.index(features) + 1 :]
        self._layers = [layer for layer in after if not isinstance(layer, keras.layers.Dropout)]
        self._flattened = isinstance(self._layers[0], keras.layers.Flatten)

    def features(self, image: Any) -> Any:
        """Return the last feature map, float32 ``[N, h, w, k]``."""
        return self._features(image, training=False)

    def logits_and_maps(self, features: Any) -> tuple[Any, Any]:
        """Return the logits ``[N, K]``, and the Grad-CAM ``[N, h, w, K]`` of each before the ReLU."""
        pooling, *layers = self._layers
        x, active = pooling(features), {}
        for layer in layers:
            x = layer(x, training=False)
            if isinstance(layer, keras.layers.Dense) and layer.name != LOGITS:
                active[layer.name] = tf.cast(x > 0, tf.float32)
        return x, self._maps(features, self._gradient(layers, active))

    def _gradient(self, layers: list[Any], active: dict[str, Any]) -> Any:
        """Return ∂logit_c/∂pooled: ``[K, F]`` if it is the same for all images, otherwise ``[N, K, F]``."""
        gradient: Any = None
        for layer in reversed(layers):
            if isinstance(layer, keras.layers.BatchNormalization):
                spread = tf.sqrt(_constant(layer.moving_variance) + layer.epsilon)
                gradient = gradient * (_constant(layer.gamma) / spread)
            elif layer.name == LOGITS:
                gradient = tf.transpose(_constant(layer.kernel))
            else:
                gradient = gradient * active[layer.name][:, None, :]
                gradient = tf.matmul(gradient, _constant(layer.kernel), transpose_b=True)
        return gradient

    def _maps(self, features: Any, gradient: Any) -> Any:
        shape = tf.shape(features)
        height, width, channels = features.shape[1:]
        places = float(height * width)
        if self._flattened:
            classes = gradient.shape[-2]
            gradient = tf.reduce_mean(tf.reshape(gradient, (-1, classes, height * width, channels)), axis=2)
        else:
            gradient = gradient / places
        flat = tf.reshape(features, (shape[0], height * width, channels))
        if gradient.shape.rank == 2 or gradient.shape[0] == 1:
            shared = gradient if gradient.shape.rank == 2 else gradient[0]
            maps = tf.tensordot(flat, tf.transpose(shared), axes=1)
        else:
            maps = tf.matmul(flat, gradient, transpose_b=True)
        return tf.reshape(maps, (shape[0], height, width, maps.shape[-1]))


def _constant(variable: Any) -> Any:
    return tf.cast(variable.value, tf.float32)
