"""Trained members to one ONNX graph that holds all numerics, checked against Keras.

Grad-CAM without a backward pass. With global average pooling and one dense layer the logit is
z_c = mean_ij(M_c[i,j]) + b_c, where M_c = Σ_k W_kc A^k is the class activation map. The gradient of
z_c by A^k is the constant W_kc / (h·w), so Grad-CAM (Selvaraju et al., ICCV 2017, eq. 1 and 2),
ReLU(Σ_k α_k A^k), equals ReLU(M_c) up to a positive factor. For the ensemble's p_c = Σ_m w_m p_m,c
the maps are added with the weight ∂ log p_c / ∂ log p_m,c = w_m p_m,c / p_c.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from models.errors import DermaserveError
from training.calibration import Calibration
from training.loop import predict_logits
from training.networks import FEATURES, LOGITS

OPSET = 17
PROBABILITY_TOLERANCE = 1e-4
HEATMAP_TOLERANCE = 1e-3
_TINY = 1e-12  # keeps p_m / p finite where a probability underflows


class ExportError(DermaserveError):
    """The exported graph does not agree with the trained networks."""


@dataclass(frozen=True)
class Parity:
    """Largest differences found between the graph and Keras."""

    probabilities: dict[int, float]  # by batch size
    heatmaps: float  # of heatmaps divided by their maximum


def export_onnx(networks: Sequence[keras.Model], calibration: Calibration, *, size: int, path: Path) -> None:
    """Write the ensemble as ``path``: input ``image``, outputs ``probabilities`` and ``cams``.

    Args:
        networks: the trained members, in the order of the calibration's weights.
        calibration: temperatures, weights and prior shift to build in.
        size: input height and width in pixels.
        path: the file.
    """
    heads = [_Head(network) for network in networks]
    shift = tf.constant(calibration.log_prior_shift, tf.float32)

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8, name="image")])
    def graph(image: Any) -> dict[str, Any]:
        image = tf.cast(image, tf.float32)
        members = []
        for head, weight, temperature in zip(
            heads, calibration.weights, calibration.temperatures, strict=True
        ):
            maps = tf.tensordot(head.features(image, training=False), head.kernel, axes=1) / temperature
            logits = tf.reduce_mean(maps, axis=(1, 2)) + head.bias / temperature - shift
            members.append((weight * tf.nn.softmax(logits), maps))
        probabilities = tf.add_n([p for p, _ in members])
        cams = tf.nn.relu(
            tf.add_n([(p / (probabilities + _TINY))[:, None, None, :] * maps for p, maps in members])
        )
        return {
            "probabilities": tf.identity(probabilities, name="probabilities"),
            "cams": tf.transpose(cams, (0, 3, 1, 2), name="cams"),
        }

    _convert(graph, path)


def check_parity(
    path: Path, networks: Sequence[keras.Model], calibration: Calibration, images: np.ndarray
) -> Parity:
    """Compare the graph with Keras on ``images``, uint8 ``[N, H, W, C]`` with N >= 7.

    Probabilities at batch sizes 1 and 7; the heatmap of every class of every image against
    Grad-CAM by ``tf.GradientTape``.

    Raises:
        ExportError: a difference is over its tolerance.
    """
    options = onnxruntime.SessionOptions()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    logits = np.stack([predict_logits(network, images, 7) for network in networks])
    expected = calibration.probabilities(logits)
    differences = {}
    cams = np.empty(0)
    for batch in (1, 7):
        runs = [
            session.run(["probabilities", "cams"], {"image": images[start : start + batch]})
            for start in range(0, len(images), batch)
        ]
        probabilities = np.concatenate([run[0] for run in runs])
        cams = np.concatenate([run[1] for run in runs])
        differences[batch] = float(np.abs(probabilities - expected).max())
        if not differences[batch] <= PROBABILITY_TOLERANCE:  # also true for NaN
            raise ExportError(
                f"probabilities at batch {batch} differ from Keras by {differences[batch]:.2e}, "
                f"allowed is {PROBABILITY_TOLERANCE:.0e}"
            )
    reference = grad_cam(networks, calibration, images)
    difference = float(np.abs(_normalised(cams) - _normalised(reference)).max())
    if not difference <= HEATMAP_TOLERANCE:
        raise ExportError(
            f"heatmaps differ from Grad-CAM by {difference:.2e}, allowed is {HEATMAP_TOLERANCE:.0e}"
        )
    return Parity(differences, difference)


def grad_cam(networks: Sequence[keras.Model], calibration: Calibration, images: np.ndarray) -> np.ndarray:
    """Grad-CAM of every class by automatic differentiation, float32 ``[N, K, h, w]``.

    The reference that the graph's ``cams`` are held against; nothing in it uses that the head is
    linear.
    """
    batch = tf.constant(images, tf.float32)
    logits = np.stack([predict_logits(network, images, len(images)) for network in networks])
    by_member = calibration.member_probabilities(logits)
    ensemble = calibration.probabilities(logits)
    total: Any = 0.0
    for member, network in enumerate(networks):
        backbone_end = network.get_layer(FEATURES)
        features = keras.Model(network.inputs, backbone_end.output)(batch, training=False)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(features)
            x = features
            for layer in network.layers[network.layers.index(backbone_end) + 1 :]:
                x = layer(x, training=False)
            scaled = x / calibration.temperatures[member]
            columns = tf.unstack(scaled, axis=1)
        maps = []
        for column in columns:
            alpha = tf.reduce_mean(tape.gradient(column, features), axis=(1, 2), keepdims=True)
            maps.append(tf.reduce_sum(alpha * features, axis=3))
        share = calibration.weights[member] * by_member[member] / (ensemble + _TINY)
        total += share[:, :, None, None] * tf.stack(maps, axis=1).numpy()
    return np.asarray(np.maximum(total, 0.0))


class _Head:
    """The feature extractor and the dense layer of a member, taken apart."""

    def __init__(self, network: keras.Model) -> None:
        self.features = keras.Model(network.inputs, network.get_layer(FEATURES).output)
        dense = network.get_layer(LOGITS)
        self.kernel = tf.constant(keras.ops.convert_to_numpy(dense.kernel))
        self.bias = tf.constant(keras.ops.convert_to_numpy(dense.bias))


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
    _rename(model, dict(zip(outputs, ["cams", "probabilities"], strict=True)))
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
    return np.asarray(maps / np.maximum(top, 1e-3 * top.max(axis=1, keepdims=True) + _TINY))
