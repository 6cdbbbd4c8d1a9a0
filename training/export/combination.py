"""``training.calibration.combination`` in TensorFlow, and the combination of the members' maps.

The maps are combined by the derivative of the probabilities. The export checks that both modules give the
same probabilities.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from training.calibration.combination import TINY, Combination


class Combined(NamedTuple):
    """The ensemble's outputs for a batch, as tensors.

    Attributes:
        probabilities: ``[N, K]``.
        maps: ``[N, h, w, K]`` before the ReLU; h and w are those of the member with the finest map.
        disagreement: ``[N]``.
    """

    probabilities: Any
    maps: Any
    disagreement: Any


def combine(combination: Combination, members: Sequence[Any], maps: Sequence[Any]) -> Combined:
    """Combine the members' probabilities, each ``[N, K_m]``, and maps, each ``[N, h_m, w_m, K_m]``."""
    maps = _to_equal_size(maps)
    kinds = {"mean": _mean, "vote": _vote, "specialists": _specialists}
    probabilities, combined = kinds[combination.kind](combination, members, maps)
    return Combined(probabilities, combined, _disagreement(combination, members))


def _mean(combination: Combination, members: Sequence[Any], maps: Sequence[Any]) -> tuple[Any, Any]:
    weighted = [weight * p for weight, p in zip(combination.weights, members, strict=True)]
    total = tf.add_n(weighted)
    return total, _weighted_sum([p / (total + TINY) for p in weighted], maps)


def _vote(combination: Combination, members: Sequence[Any], maps: Sequence[Any]) -> tuple[Any, Any]:
    # The derivative of a vote is zero, so the maps are those of the mean.
    mean, combined = _mean(combination, members, maps)
    classes = mean.shape[1]
    votes = tf.add_n([tf.one_hot(tf.argmax(p, axis=1), classes) for p in members])
    winner = tf.one_hot(tf.argmax(votes, axis=1), classes)
    return (1 - combination.smoothing) * winner + combination.smoothing * mean, combined


def _specialists(combination: Combination, members: Sequence[Any], maps: Sequence[Any]) -> tuple[Any, Any]:
    # Let m = p_a + p_b and s the specialist's probabilities: p'_a = m · s_a. The derivative of log p'_a is
    # p_j / m with respect to log p_j of the first member, for j in {a, b}, and 1 with respect to log s_a.
    base, base_maps = members[0], maps[0]
    classes = base.shape[1]
    pairs = combination.specialties[1:]
    label, second = tf.unstack(tf.math.top_k(base, 2).indices, axis=1)
    sums = [base[:, a] + base[:, b] for a, b in pairs]
    asked = [(label == a) | ((label == b) & (second == a)) for a, b in pairs]
    scored = [tf.where(is_asked, mass, -1.0) for is_asked, mass in zip(asked, sums, strict=True)]
    chosen = tf.argmax(tf.stack(scored, axis=1), axis=1)
    probabilities, combined = base, base_maps
    for index, (pair, specialist, specialist_maps) in enumerate(
        zip(pairs, members[1:], maps[1:], strict=True)
    ):
        place = tf.one_hot(pair, classes)  # [2, K]
        applies = tf.cast(asked[index] & (chosen == index), tf.float32)  # [N]
        in_pair = applies[:, None] * tf.reduce_sum(place, axis=0)  # [N, K]
        mass = sums[index]
        decided = mass[:, None] * tf.matmul(specialist, place)
        probabilities = (1 - in_pair) * probabilities + in_pair * decided
        shared = tf.add_n(
            [(base[:, c] / (mass + TINY))[:, None, None] * base_maps[..., c] for c in pair]
        )  # [N, h, w]
        replaced = shared[..., None] + tf.tensordot(specialist_maps, place, axes=1)
        mask = in_pair[:, None, None, :]
        combined = (1 - mask) * combined + mask * replaced
    return probabilities, combined


def _disagreement(combination: Combination, members: Sequence[Any]) -> Any:
    full = [index for index, pair in enumerate(combination.specialties) if not pair]
    total = sum(combination.weights[index] for index in full)
    weights = [combination.weights[index] / total for index in full]
    mean = tf.add_n([w * members[index] for w, index in zip(weights, full, strict=True)])
    return tf.add_n(
        [
            w * 0.5 * tf.reduce_sum(tf.abs(members[index] - mean), axis=1)
            for w, index in zip(weights, full, strict=True)
        ]
    )


def _weighted_sum(weights: Sequence[Any], maps: Sequence[Any]) -> Any:
    """Return Σ_m weights_m ``[N, K]`` · maps_m ``[N, h, w, K]``."""
    return tf.add_n([w[:, None, None, :] * m for w, m in zip(weights, maps, strict=True)])


def _to_equal_size(maps: Sequence[Any]) -> list[Any]:
    """Scale all maps to the size of the largest."""
    height = max(m.shape[1] for m in maps)
    width = max(m.shape[2] for m in maps)
    return [m if m.shape[1:3] == (height, width) else tf.image.resize(m, (height, width)) for m in maps]
