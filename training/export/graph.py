"""Exports trained members as one ONNX graph with all numerics, and compares it with Keras.

The members' maps are combined by the chain rule: the ensemble's map of class c is
Σ_m Σ_j ∂ log p_c / ∂ log p_m,j · (Grad-CAM of member m for its class j), before the ReLU. For a mean of
probabilities, this weight is w_m p_m,c / p_c. ``training.export.gradcam`` computes the maps of each member.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from models.errors import DermaserveError
from training.calibration.combination import TINY
from training.calibration.fit import Calibration
from training.calibration.member_outputs import predict
from training.calibration.out_of_distribution import OutOfDistribution
from training.export.combination import combine
from training.export.gradcam import HeadGraph
from training.export.runtime import OUTPUTS, run_graph
from training.network.build import FEATURES

OPSET = 17
PROBABILITY_TOLERANCE = 1e-4
HEATMAP_TOLERANCE = 2e-3
"""Tolerance as a share of a map's maximum. An untrained transformer reached 1.01e-3 after its scaling had
been folded into the kernel; the shipped model reaches 1e-4."""


class ExportError(DermaserveError):
    """The exported graph's outputs differ from those of the trained networks."""


@dataclass(frozen=True)
class Parity:
    """Largest differences between the graph and Keras.

    Attributes:
        probabilities: largest difference of the probabilities, by batch size.
        heatmaps: largest difference of the heatmaps, each divided by its maximum.
    """

    probabilities: dict[int, float]
    heatmaps: float


def export_onnx(
    networks: Sequence[keras.Model],
    calibration: Calibration,
    out_of_distribution: OutOfDistribution,
    *,
    size: tuple[int, int],
    channels: int,
    path: Path,
) -> None:
    """Write the ensemble to the ONNX file ``path``, with the input ``image`` and the outputs ``OUTPUTS``.

    Args:
        networks: the trained members, in the order of the calibration's weights.
        calibration: combination, temperatures and prior shifts.
        out_of_distribution: the out-of-distribution score.
        size: height and width of the input in pixels.
        channels: 3 for RGB, 1 for grey.
        path: the file.
    """
    heads = [HeadGraph(network) for network in networks]

    @tf.function(input_signature=[tf.TensorSpec((None, *size, channels), tf.uint8, name="image")])
    def graph(image: Any) -> dict[str, Any]:
        image = tf.cast(image, tf.float32)
        probabilities, maps, pooled = [], [], []
        for head, temperature, shift in zip(
            heads, calibration.temperatures, calibration.log_prior_shifts, strict=True
        ):
            features = head.features(image)
            logits, member_maps = head.logits_and_maps(features)
            probabilities.append(tf.nn.softmax(logits / temperature - tf.constant(shift, tf.float32)))
            maps.append(member_maps / temperature)
            pooled.append(tf.reduce_mean(features, axis=(1, 2)))
        combined = combine(calibration.combination, probabilities, maps)
        ood_score = out_of_distribution.graph(tf, tf.concat(pooled, axis=1))
        return {
            "probabilities": tf.identity(combined.probabilities, name="probabilities"),
            "cams": tf.transpose(tf.nn.relu(combined.maps), (0, 3, 1, 2), name="cams"),
            "disagreement": tf.identity(combined.disagreement, name="disagreement"),
            "ood_score": tf.identity(ood_score, name="ood_score"),
        }

    _convert(graph, path)


def check_parity(
    path: Path,
    networks: Sequence[keras.Model],
    calibration: Calibration,
    out_of_distribution: OutOfDistribution,
    images: np.ndarray,
) -> Parity:
    """Compare the graph in ``path`` with Keras on ``images``, uint8 ``[N, H, W, C]`` with N ≥ 7.

    Probabilities, disagreement and out-of-distribution score are compared at batch sizes 1 and 7. The heatmap
    of every class of every image is compared with Grad-CAM by ``tf.GradientTape``.

    Raises:
        ExportError: a difference exceeds its tolerance.
    """
    outputs = predict(networks, images, batch_size=7)
    members = calibration.member_probabilities(outputs.logits)
    expected = {
        "probabilities": calibration.combination(members),
        "disagreement": calibration.combination.disagreement(members),
        "ood_score": out_of_distribution.score(outputs.features),
    }
    differences = {}
    for batch in (1, 7):
        found = run_graph(path, images, batch_size=batch)
        for name, values in expected.items():
            # Of the score, a squared distance, the distance: rounding of the features moves it by as much,
            # however small it is; 1 is that of the average training image.
            comparable = np.sqrt if name == "ood_score" else np.asarray
            difference = float(np.abs(comparable(found[name]) - comparable(values)).max())
            if not difference <= PROBABILITY_TOLERANCE:  # also true for NaN
                raise ExportError(
                    f"{name} at batch size {batch} differs from Keras by {difference:.2e}, "
                    f"the tolerance is {PROBABILITY_TOLERANCE:.0e}"
                )
        differences[batch] = float(np.abs(found["probabilities"] - expected["probabilities"]).max())
        cams = found["cams"]
    reference = grad_cam(networks, calibration, images)
    difference = float(np.abs(_normalised(cams) - _normalised(reference)).max())
    if not difference <= HEATMAP_TOLERANCE:
        raise ExportError(
            f"heatmaps differ from Grad-CAM by {difference:.2e}, the tolerance is {HEATMAP_TOLERANCE:.0e}"
        )
    return Parity(differences, difference)


def grad_cam(networks: Sequence[keras.Model], calibration: Calibration, images: np.ndarray) -> np.ndarray:
    """Return the Grad-CAM of every class by automatic differentiation, float32 ``[N, K, h, w]``.

    This is the reference for the graph's ``cams``. It makes no assumption about the heads.
    """
    batch = tf.constant(images, tf.float32)
    probabilities, maps = [], []
    for network, temperature, shift in zip(
        networks, calibration.temperatures, calibration.log_prior_shifts, strict=True
    ):
        backbone_end = network.get_layer(FEATURES)
        features = keras.Model(network.input, backbone_end.output)(batch, training=False)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(features)
            x = features
            for layer in network.layers[network.layers.index(backbone_end) + 1 :]:
                x = layer(x, training=False)
            scaled = x / temperature
            columns = tf.unstack(scaled, axis=1)
        by_class = []
        for column in columns:
            alpha = tf.reduce_mean(tape.gradient(column, features), axis=(1, 2), keepdims=True)
            by_class.append(tf.reduce_sum(alpha * features, axis=3))
        probabilities.append(tf.nn.softmax(scaled - tf.constant(shift, tf.float32)))
        maps.append(tf.stack(by_class, axis=-1))
    combined = combine(calibration.combination, probabilities, maps)
    return np.asarray(tf.transpose(tf.nn.relu(combined.maps), (0, 3, 1, 2)).numpy())


def _convert(graph: Any, path: Path) -> None:
    """Convert a tf.function to ONNX; tf2onnx is used only here.

    Variables are frozen first. Otherwise tf2onnx 1.17 turns the constants of EfficientNet's Normalization
    layer into required graph inputs, which makes the file invalid.
    """
    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    frozen = convert_variables_to_constants_v2(graph.get_concrete_function())
    inputs = [tensor.name for tensor in frozen.inputs]
    outputs = [tensor.name for tensor in frozen.outputs]
    model, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(), input_names=inputs, output_names=outputs, opset=OPSET
    )
    _rename(model, dict(zip(inputs, ["image"], strict=True)))
    # tf.function sorts the outputs of a dict by key.
    _rename(model, dict(zip(outputs, sorted(OUTPUTS), strict=True)))
    path.write_bytes(model.SerializeToString())


def _rename(model: Any, names: dict[str, str]) -> None:
    """Rename the graph's inputs and outputs as ``names`` states."""
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        for ports in (node.input, node.output):
            for index, name in enumerate(ports):
                ports[index] = names.get(name, name)


def _normalised(maps: np.ndarray) -> np.ndarray:
    """Divide maps by their maximum, or by a thousandth of the image's largest if that is more."""
    top = maps.max(axis=(2, 3), keepdims=True)
    return np.asarray(maps / np.maximum(top, 1e-3 * top.max(axis=1, keepdims=True) + TINY))
