"""What the trained members say of images: logits, and pooled features for the out-of-distribution score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from training.networks import FEATURES, LOGITS


class Answers(NamedTuple):
    """The members' answers to N images.

    Attributes:
        logits: float64 ``[N, K_m]`` of each member.
        pooled: float32 ``[N, F]``, the spatial means of all members' last feature maps side by side.
    """

    logits: tuple[np.ndarray, ...]
    pooled: np.ndarray

    def save(self, path: Path) -> None:
        """Write to ``path`` (.npz), whole or not at all."""
        part = path.with_name(f"part-{path.name}")
        members: dict[str, Any] = {f"logits_{index}": logits for index, logits in enumerate(self.logits)}
        np.savez(part, pooled=self.pooled, **members)
        part.replace(path)

    @staticmethod
    def load(path: Path) -> "Answers":
        """What ``save`` wrote."""
        with np.load(path) as content:
            count = len(content.files) - 1
            return Answers(tuple(content[f"logits_{i}"] for i in range(count)), content["pooled"])


def predict(networks: Sequence[keras.Model], images: Any, *, batch_size: int) -> Answers:
    """The answers of ``networks`` to uint8 images ``[N, H, W, C]``."""
    logits, pooled = [], []
    for network in networks:
        features = network.get_layer(FEATURES).output
        mean = keras.layers.GlobalAveragePooling2D()(features)
        both = keras.Model(network.inputs, [network.get_layer(LOGITS).output, mean])
        parts = [
            both.predict_on_batch(np.asarray(images[start : start + batch_size], np.float32))
            for start in range(0, len(images), batch_size)
        ]
        logits.append(np.concatenate([np.asarray(z, np.float64) for z, _ in parts]))
        pooled.append(np.concatenate([np.asarray(a, np.float32) for _, a in parts]))
    return Answers(tuple(logits), np.concatenate(pooled, axis=1))
