"""Outputs of the trained members: logits, and pooled features for the out-of-distribution score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from training.network.build import FEATURES, LOGITS


class MemberOutputs(NamedTuple):
    """The members' outputs for N images.

    Attributes:
        logits: float64 ``[N, K_m]`` per member.
        pooled: float32 ``[N, F_m]`` per member, the spatial mean of its last feature map.
    """

    logits: tuple[np.ndarray, ...]
    pooled: tuple[np.ndarray, ...]

    @property
    def features(self) -> np.ndarray:
        """The concatenated pooled features of all members, float32 ``[N, ΣF_m]``."""
        return np.concatenate(self.pooled, axis=1)

    def save(self, path: Path) -> None:
        """Write to the file ``path`` (``.npz``), atomically."""
        part = path.with_name(f"part-{path.name}")
        arrays: dict[str, Any] = {}
        for index, (logits, pooled) in enumerate(zip(self.logits, self.pooled, strict=True)):
            arrays |= {f"logits_{index}": logits, f"pooled_{index}": pooled}
        np.savez(part, **arrays)
        part.replace(path)

    @staticmethod
    def load(path: Path) -> "MemberOutputs":
        """Read a file that ``save`` wrote."""
        with np.load(path) as content:
            members = range(len(content.files) // 2)
            return MemberOutputs(
                tuple(content[f"logits_{index}"] for index in members),
                tuple(content[f"pooled_{index}"] for index in members),
            )


def predict(networks: Sequence[keras.Model], images: Any, *, batch_size: int) -> MemberOutputs:
    """Return the outputs of ``networks`` for uint8 images ``[N, H, W, C]``."""
    logits, pooled = [], []
    for network in networks:
        features = network.get_layer(FEATURES).output
        mean = keras.layers.GlobalAveragePooling2D()(features)
        both = keras.Model(network.input, [network.get_layer(LOGITS).output, mean])
        parts = [
            both.predict_on_batch(np.asarray(images[start : start + batch_size], np.float32))
            for start in range(0, len(images), batch_size)
        ]
        logits.append(np.concatenate([np.asarray(z, np.float64) for z, _ in parts]))
        pooled.append(np.concatenate([np.asarray(a, np.float32) for _, a in parts]))
    return MemberOutputs(tuple(logits), tuple(pooled))
