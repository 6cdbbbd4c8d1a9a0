"""What a graph has to compute and to move, counted from the ONNX file; and copies of it in other forms."""

import math
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnxruntime.transformers.float16 import convert_float_to_float16

from models.errors import DermaserveError

_CONVOLUTIONS = ("Conv", "FusedConv", "NhwcFusedConv")
_PRODUCTS = ("MatMul", "FusedMatMul", "Gemm")


class GraphError(DermaserveError):
    """A graph that cannot be counted, or not be put into the form that is asked for."""


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product, for one image.

    Attributes:
        name: of the node.
        operations: multiplications and additions.
        weights: numbers that are read once for a batch.
        activations: numbers that are read and written for every image.
    """

    name: str
    operations: int
    weights: int
    activations: int


def count_layers(model: onnx.ModelProto) -> list[Layer]:
    """All convolutions and matrix products of ``model``, with the shapes that a run on the CPU shows.

    What stands between them (activations, scaling, pooling) counts for nothing: a perfect compiler
    joins it to them. So the sum is less than any real program needs, as a floor should be.

    Raises:
        GraphError: a node of a kind that is not counted here is a convolution or product too.
    """
    values = _values(model)
    constants = {initializer.name for initializer in model.graph.initializer}
    constants |= {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    layers = []
    for node in model.graph.node:
        if node.op_type in _CONVOLUTIONS:
            weight = values[node.input[1]]
            depth = math.prod(weight[1:])  # output channels come first
        elif node.op_type in _PRODUCTS:
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            depth = values[node.input[0]][-2 if transposed else -1]
        elif "Conv" in node.op_type or "MatMul" in node.op_type:
            raise GraphError(f"{node.name}: {node.op_type} cannot be counted: not known here")
        else:
            continue
        sizes = {name: math.prod(values[name]) for name in node.input if name}
        outputs = math.prod(values[node.output[0]])
        layers.append(
            Layer(
                name=node.name,
                operations=2 * depth * outputs,
                weights=sum(size for name, size in sizes.items() if name in constants),
                activations=outputs + sum(size for name, size in sizes.items() if name not in constants),
            )
        )
    return layers


def floor_seconds(
    layers: list[Layer], batch: int, *, operations_per_second: float, bytes_per_second: float, width: int
) -> float:
    """The least time of a batch: of each layer, its operations or its bytes, whichever takes longer.

    Args:
        layers: of the graph.
        batch: images.
        operations_per_second, bytes_per_second: of the device.
        width: bytes of a number.
    """
    return sum(
        max(
            batch * layer.operations / operations_per_second,
            width * (layer.weights + batch * layer.activations) / bytes_per_second,
        )
        for layer in layers
    )


def in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that computes in float16, with the same inputs and outputs."""
    copy = _copy(model)
    empty = {tensor.name for tensor in copy.graph.initializer if 0 in tensor.dims}
    for node in copy.graph.node:
        if node.op_type == "Resize" and node.input[1] in empty:
            # ONNX Runtime 1.31 reorders the axes of this region even where it is empty, and fails.
            node.input[1] = ""
    converted = convert_float_to_float16(copy, keep_io_types=True)
    if not isinstance(converted, onnx.ModelProto):
        raise GraphError(f"the conversion to float16 gave a {type(converted).__name__}")
    return converted


def of_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """A copy for batches of one size alone, as CUDA graphs and TensorRT want it."""
    copy = _copy(model)
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    del copy.graph.value_info[:]  # speaks of a free batch size
    return copy


def input_shape(model: onnx.ModelProto) -> tuple[int, int, int]:
    """Height, width and channels of the image that the graph reads."""
    height, width, channels = (d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:])
    return height, width, channels


def _values(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of all values of the graph, for one image: it is run with each of them as an output.

    Shape inference does not see through the reshapes that depend on the batch size.
    """
    copy = _copy(model)
    known = {value.name for value in copy.graph.output}
    inner = [name for node in copy.graph.node for name in node.output if name and name not in known]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name, shape = model.graph.input[0].name, (1, *input_shape(model))
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {name: np.zeros(shape, np.uint8)})
    shapes = {name: tuple(value.shape) for name, value in zip(names, found, strict=True)}
    shapes |= {initializer.name: tuple(initializer.dims) for initializer in model.graph.initializer}
    return shapes | {name: shape}


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
