"""Trained members to one ONNX graph that holds all numerics, checked against Keras.

The maps of the members are added by the chain rule: the ensemble's map of class c is
Σ_m Σ_j ∂ log p_c / ∂ log p_m,j · (Grad-CAM of member m for its class j), before the ReLU. For a mean
of probabilities that weight is w_m p_m,c / p_c; a member's own map comes from ``training.export.gradcam``.
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
from training.export.combination import join
from training.export.gradcam import HeadGraph
from training.export.runtime import OUTPUTS, run_graph
from training.network.build import FEATURES

OPSET = 17
PROBABILITY_TOLERANCE = 1e-4
HEATMAP_TOLERANCE = 2e-3
"""Of a map's maximum. An untrained transformer came to 1.01e-3 once its scaling was in the kernel; the
shipped model is at 1e-4."""


class ExportError(DermaserveError):
    """The exported graph does not agree with the trained networks."""


@dataclass(frozen=True)
class Parity:
    """Largest differences found between the graph and Keras."""

    probabilities: dict[int, float]  # by batch size
    heatmaps: float  # of heatmaps divided by their maximum


def export_onnx(
    networks: Sequence[keras.Model],
    calibration: Calibration,
    outliers: OutOfDistribution,
    *,
    size: tuple[int, int],
    channels: int,
    path: Path,
) -> None:
    """Write the ensemble as ``path``: input ``image``, outputs as in ``OUTPUTS``.

    Args:
        networks: the trained members, in the order of the calibration's weights.
        calibration: combination, temperatures and prior shifts to build in.
        outliers: the out-of-distribution score to build in.
        size: input height and width in pixels.
        channels: 3, or 1 for grey.
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
        joined = join(calibration.combination, probabilities, maps)
        return {
            "probabilities": tf.identity(joined.probabilities, name="probabilities"),
            "cams": tf.transpose(tf.nn.relu(joined.maps), (0, 3, 1, 2), name="cams"),
            "disagreement": tf.identity(joined.disagreement, name="disagreement"),
            "ood_score": tf.identity(outliers.graph(tf, tf.concat(pooled, axis=1)), name="ood_score"),
        }

    _convert(graph, path)


def check_parity(
    path: Path,
    networks: Sequence[keras.Model],
    calibration: Calibration,
    outliers: OutOfDistribution,
    images: np.ndarray,
) -> Parity:
    """Compare the graph with Keras on ``images``, uint8 ``[N, H, W, C]`` with N >= 7.

    Probabilities, disagreement and out-of-distribution score at batch sizes 1 and 7; the heatmap of
    every class of every image against Grad-CAM by ``tf.GradientTape``.

    Raises:
        ExportError: a difference is over its tolerance.
    """
    outputs = predict(networks, images, batch_size=7)
    members = calibration.member_probabilities(outputs.logits)
    expected = {
        "probabilities": calibration.combination(members),
        "disagreement": calibration.combination.disagreement(members),
        "ood_score": outliers.score(outputs.features),
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
                    f"{name} at batch {batch} differs from Keras by {difference:.2e}, "
                    f"allowed is {PROBABILITY_TOLERANCE:.0e}"
                )
        differences[batch] = float(np.abs(found["probabilities"] - expected["probabilities"]).max())
        cams = found["cams"]
    reference = grad_cam(networks, calibration, images)
    difference = float(np.abs(_normalised(cams) - _normalised(reference)).max())
    if not difference <= HEATMAP_TOLERANCE:
        raise ExportError(
            f"heatmaps differ from Grad-CAM by {difference:.2e}, allowed is {HEATMAP_TOLERANCE:.0e}"
        )
    return Parity(differences, difference)


def grad_cam(networks: Sequence[keras.Model], calibration: Calibration, images: np.ndarray) -> np.ndarray:
    """Grad-CAM of every class by automatic differentiation, float32 ``[N, K, h, w]``.

    The reference that the graph's ``cams`` are held against; nothing in it uses what the heads are.
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
        of_class = []
        for column in columns:
            alpha = tf.reduce_mean(tape.gradient(column, features), axis=(1, 2), keepdims=True)
            of_class.append(tf.reduce_sum(alpha * features, axis=3))
        probabilities.append(tf.nn.softmax(scaled - tf.constant(shift, tf.float32)))
        maps.append(tf.stack(of_class, axis=-1))
    joined = join(calibration.combination, probabilities, maps)
    return np.asarray(tf.transpose(tf.nn.relu(joined.maps), (0, 3, 1, 2)).numpy())


def _convert(graph: Any, path: Path) -> None:
    """tf.function to ONNX: the only place that knows tf2onnx.

    Variables are frozen first: tf2onnx 1.17 otherwise turns the constants of EfficientNet's
    Normalization layer into required graph inputs, which makes the file invalid.
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
    """Give the graph's inputs and outputs their names of the contract."""
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        for ports in (node.input, node.output):
            for index, name in enumerate(ports):
                ports[index] = names.get(name, name)


def _normalised(maps: np.ndarray) -> np.ndarray:
    """Maps divided by their maximum; one a thousand times weaker than the image's strongest is noise."""
    top = maps.max(axis=(2, 3), keepdims=True)
    return np.asarray(maps / np.maximum(top, 1e-3 * top.max(axis=1, keepdims=True) + TINY))
