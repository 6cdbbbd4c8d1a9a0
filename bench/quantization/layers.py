"""Each convolution of a graph alone: float32 against int8, so that a choice by layer can be judged.

Convolutions of one shape are timed once, as graphs of a single convolution; see ``convolution.FORMS``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import onnx
from onnx import helper, shape_inference

from bench.quantization.convolution import FORMS, KINDS, Kind, Shape, one_convolution
from bench.quantization.timing import open_session, time_in_turns

GAIN = 1.05
"""A layer is quantized if it is so many times as fast with it; less is within the spread of the timing."""


@dataclass(frozen=True)
class Layer:
    """Convolutions of one shape and the median seconds of one of them by form, see ``convolution.FORMS``."""

    shape: Shape
    nodes: tuple[str, ...]
    seconds: dict[str, float]

    @property
    def gain(self) -> float:
        """How many times as fast as float32 int8 is, conversions included."""
        return self.seconds["float32"] / self.seconds["int8"]


def convolutions(model: onnx.ModelProto) -> dict[Shape, list[str]]:
    """Names of the convolutions of a graph by shape, for an input of batch size 1.

    Raises:
        ValueError: the size of a convolution's input cannot be inferred.
    """
    single = onnx.ModelProto()
    single.CopyFrom(model)
    del single.graph.value_info[:]  # they know a batch of any size only
    single.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    graph = shape_inference.infer_shapes(single, data_prop=True).graph
    sizes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:])
        for value in (*graph.input, *graph.value_info)
    }
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found: dict[Shape, list[str]] = {}
    for node in graph.node:
        if node.op_type == "Conv":
            image = sizes.get(node.input[0], ())
            if len(image) != 3 or 0 in image:
                raise ValueError(f"{node.name}: expected an input of known size, inferred {image}")
            attributes = ((a.name, helper.get_attribute_value(a)) for a in node.attribute)
            settings = tuple((name, _hashable(value)) for name, value in sorted(attributes))
            shape = Shape(image, weights[node.input[1]], settings)
            found.setdefault(shape, []).append(node.name)
    return found


def time_layers(model: onnx.ModelProto, rounds: int) -> list[Layer]:
    """Time every shape of convolution in ``model``, in turns."""
    rng = np.random.default_rng(0)
    layers = []
    for shape, nodes in convolutions(model).items():
        image = rng.normal(size=(1, *shape.image)).astype(np.float32)
        bytes_ = rng.integers(0, 256, image.shape, np.uint8)
        sessions = {form: open_session(one_convolution(shape, form).SerializeToString()) for form in FORMS}
        feeds = {form: {"x": bytes_ if form == "int8 alone" else image} for form in FORMS}
        seconds = time_in_turns(sessions, feeds, rounds)
        layers.append(Layer(shape, tuple(nodes), {form: median(seconds[form]) for form in FORMS}))
    return layers


def choose(layers: Iterable[Layer]) -> list[str]:
    """Names of the convolutions that are faster in int8 even with its conversions."""
    return [node for layer in layers if layer.gain > GAIN for node in layer.nodes]


def by_kind(layers: Sequence[Layer]) -> dict[Kind, dict[str, float]]:
    """Seconds of all convolutions of a kind, by form."""
    return {
        kind: {
            form: sum(layer.seconds[form] * len(layer.nodes) for layer in layers if layer.shape.kind == kind)
            for form in FORMS
        }
        for kind in KINDS
        if any(layer.shape.kind == kind for layer in layers)
    }


def _hashable(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
