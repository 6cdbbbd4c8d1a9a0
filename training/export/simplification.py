"""Removes operations that tf2onnx leaves in a graph and that cost time for every image.

The outputs change only by rounding errors, which ``training.export.graph.check_parity`` measures afterwards.
The result is plain ONNX for any processor and any runtime.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from training.export.runtime import optimise

_AFFINE = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
_CHANNELS_FIRST = [0, 3, 1, 2]


def simplify(path: Path) -> None:
    """Rewrite the graph in ``path`` as an equivalent graph with fewer operations.

    1. The scaling of the pixels is folded into the first convolutions (``_fold_scaling``).
    2. Reshapes to the existing shape, which occur in squeeze-and-excite blocks, are removed.
    3. ONNX Runtime's "basic" optimisations are applied here instead of at every start: batch normalisation
    and
       padding are folded into the convolutions, and constants are folded.
    """
    model = onnx.load(path)
    _fold_scaling(model.graph)
    _drop_reshapes(model)
    _drop_unused(model.graph)
    simplified = optimise(model)
    onnx.checker.check_model(simplified, full_check=True)
    onnx.save(simplified, path)


def _fold_scaling(graph: Any) -> None:
    """Fold the scaling a · x + b of the pixels x into each convolution that reads them.

    The kernel is multiplied by a, and x − m remains with m = −b / a, so that the zeros of the convolution's
    padding keep their meaning. Channels are moved first while pixels are bytes: this moves a quarter of the
    memory, and a constant by channel then applies to a whole plane.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    image = graph.input[0].name
    channels = graph.input[0].type.tensor_type.shape.dim[3].dim_value
    added = [
        helper.make_node("Transpose", [image], [f"{image}/planes"], perm=_CHANNELS_FIRST),
        helper.make_node("Cast", [f"{image}/planes"], [f"{image}/pixels"], to=onnx.TensorProto.FLOAT),
    ]
    for conv in (node for node in graph.node if node.op_type == "Conv"):
        chain = _chain_from_image(conv.input[0], image, producers, constants)
        if not chain or conv.input[1] not in constants:
            continue
        a, b = _affine(chain, constants, channels)
        source, stem = f"{image}/pixels", conv.output[0]
        for resize in (node for node in chain if node.op_type == "Resize"):
            resized = onnx.NodeProto()
            resized.CopyFrom(resize)
            resized.name = f"{stem}/{resize.name}"
            resized.input[0], resized.output[0] = source, f"{stem}/{resize.output[0]}"
            source = resized.output[0]
            added.append(resized)
        added.append(helper.make_node("Sub", [source, f"{stem}/mean"], [f"{stem}/centred"]))
        kernel = constants[conv.input[1]] * a.reshape(1, -1, 1, 1)
        for name, value in (("mean", (-b / a).reshape(1, -1, 1, 1)), ("kernel", kernel)):
            graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), f"{stem}/{name}"))
        conv.input[0], conv.input[1] = f"{stem}/centred", f"{stem}/kernel"
    for node in reversed(added):  # _drop_unused removes those without a consumer
        graph.node.insert(0, node)


def _chain_from_image(name: str, image: str, producers: dict[str, Any], constants: Any) -> list[Any]:
    """Return the operations from ``image`` to ``name``; empty if one is not a scaling, resize or transpose.

    It is also empty if a Resize comes before the channels are first, or if they are not first at the end.
    """
    chain: list[Any] = []
    while name != image:
        node = producers.get(name)
        if node is None or node.op_type not in {*_AFFINE, "Cast", "Transpose", "Resize"}:
            return []
        chain.insert(0, node)
        variable = [i for i in node.input if i and i not in constants]
        if len(variable) != 1:
            return []
        name = variable[0]
    channels_first = False
    for node in chain:
        if node.op_type == "Transpose":
            channels_first = list(node.attribute[0].ints) == _CHANNELS_FIRST
        elif node.op_type == "Resize" and not channels_first:
            return []
    return chain if channels_first else []


def _affine(chain: list[Any], constants: dict[str, Any], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a and b, float64 ``[C]``, such that ``chain`` maps a pixel x to a · x + b."""
    ends = []
    for pixel in (np.zeros((1, 1, 1, channels)), np.ones((1, 1, 1, channels))):
        x = pixel
        for node in chain:
            if node.op_type in _AFFINE:
                x = _AFFINE[node.op_type](*(constants.get(name, x) for name in node.input))
            elif node.op_type == "Transpose":
                x = x.transpose(node.attribute[0].ints)
        ends.append(x.reshape(-1))
    return ends[1] - ends[0], ends[0]


def _drop_reshapes(model: Any) -> None:
    """Bypass each Reshape, and a Squeeze before it, whose output has the shape of its input."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.value_info
    }
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    same = {}
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        source = node.input[0]
        if source in producers and producers[source].op_type == "Squeeze":
            source = producers[source].input[0]
        batch, *rest = numpy_helper.to_array(constants[node.input[1]]).tolist()
        # A Reshape to [-1] may turn a scalar, or a tensor of unknown shape, into a vector.
        if batch == -1 and rest and rest == shapes.get(source, [])[1:]:
            same[node.output[0]] = source
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)


def _drop_unused(graph: Any) -> None:
    """Remove the operations and constants on which no output depends."""
    needed = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):  # nodes are in topological order
        if needed.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            needed.update(node.input)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in needed]:
        graph.initializer.remove(tensor)
