"""Augmentation as a Keras layer, which runs on the training device with any backend.

All geometric changes form one affine transform, so the image is interpolated, and blurred, only once.
"""

import math
from typing import Any

import keras
from keras import ops

from training.recipe import Augmentation


class Augment(keras.layers.Layer):
    """Changes geometry and colours of a batch of images at random; outside training it only casts.

    Input: uint8 or float ``[N, H, W, C]`` in [0, 255]. Output: float32 of the same shape and range. Pixels
    beyond the border are filled by reflection.
    """

    def __init__(self, augmentation: Augmentation, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.augmentation = augmentation
        self.random = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = False) -> Any:
        """Augment if ``training``, otherwise only cast to float32."""
        images = ops.cast(images, "float32")
        if not training or self.augmentation == Augmentation():
            return images
        return self._color(self._geometry(images))

    def _uniform(self, count: Any, low: float, high: float) -> Any:
        return keras.random.uniform((count,), low, high, seed=self.random)

    def _sign(self, count: Any) -> Any:
        return ops.where(self._uniform(count, 0.0, 1.0) < 0.5, -1.0, 1.0)

    def _geometry(self, images: Any) -> Any:
        options = self.augmentation
        count, height, width = ops.shape(images)[0], images.shape[1], images.shape[2]
        angle = self._uniform(count, -1.0, 1.0) * math.radians(options.rotation)
        mirror_x = mirror_y = ops.ones_like(angle)
        if options.dihedral:
            angle = angle + ops.floor(self._uniform(count, 0.0, 4.0)) * (math.pi / 2)
        if options.dihedral or options.flips:
            mirror_x = self._sign(count)
        if options.flips:
            mirror_y = self._sign(count)
        # A crop of side s keeps the share s² of the area. Its position is uniform within the image.
        crop = ops.sqrt(self._uniform(count, options.min_crop, 1.0))
        free = 0.5 * (1.0 - crop) + options.shift
        shift_x = self._uniform(count, -1.0, 1.0) * free * width
        shift_y = self._uniform(count, -1.0, 1.0) * free * height
        scale = crop * self._uniform(count, 1.0 - options.zoom, 1.0 + options.zoom)
        stretch = self._uniform(count, 1.0 - options.stretch, 1.0 + options.stretch)
        scale_x, scale_y = scale * ops.sqrt(stretch) * mirror_x, scale / ops.sqrt(stretch) * mirror_y
        shear = ops.tan(self._uniform(count, -1.0, 1.0) * math.radians(options.shear))
        # Source of an output pixel: R(angle) · shear · S · (pixel - centre) + centre + shift.
        cos, sin = ops.cos(angle), ops.sin(angle)
        a, b = cos * scale_x, (cos * shear - sin) * scale_y
        d, e = sin * scale_x, (sin * shear + cos) * scale_y
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        c = centre_x + shift_x - a * centre_x - b * centre_y
        f = centre_y + shift_y - d * centre_x - e * centre_y
        zero = ops.zeros_like(a)
        return ops.image.affine_transform(
            images,
            ops.stack([a, b, c, d, e, f, zero, zero], axis=1),
            interpolation="bilinear",
            fill_mode="reflect",
            data_format="channels_last",
        )

    def _color(self, images: Any) -> Any:
        options = self.augmentation
        count, channels = ops.shape(images)[0], images.shape[3]
        mean = ops.mean(images, axis=(1, 2), keepdims=True)
        contrast = 1.0 + self._uniform(count, -1.0, 1.0) * options.contrast
        shift = 255.0 * self._uniform(count, -1.0, 1.0) * options.brightness
        gain = (
            1.0 + keras.random.uniform((count, 1, 1, channels), -1.0, 1.0, seed=self.random) * options.color
        )
        contrast = ops.reshape(contrast, (-1, 1, 1, 1))
        shift = ops.reshape(shift, (-1, 1, 1, 1))
        images = (images - mean) * contrast + mean * gain + shift
        if options.saturation or options.hue:
            images = ops.matmul(images, self._color_matrices(count)[:, None])
        return ops.clip(images, 0.0, 255.0)

    def _color_matrices(self, count: Any) -> Any:
        """Return matrices ``[N, 3, 3]`` that rotate the hue and scale the saturation of RGB colours.

        The hue rotates about the grey axis (1, 1, 1) by Rodrigues' formula. Greys do not change.
        """
        angle = self._uniform(count, -1.0, 1.0) * math.radians(self.augmentation.hue)
        saturation = 1.0 + self._uniform(count, -1.0, 1.0) * self.augmentation.saturation
        cos, sin = ops.cos(angle)[:, None, None], ops.sin(angle)[:, None, None]
        grey = ops.full((3, 3), 1 / 3)
        cross = ops.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]]) / math.sqrt(3)
        rotation = cos * ops.eye(3) + (1.0 - cos) * grey + sin * cross
        saturation = saturation[:, None, None]
        return saturation * rotation + (1.0 - saturation) * grey
