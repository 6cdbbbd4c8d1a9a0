"""One convolution as a graph of its own, in float32 or int8."""

from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.quantization.timing import open_session

Kind = Literal["dense", "depthwise", "pointwise", "squeeze-excite"]
KINDS: tuple[Kind, ...] = ("dense", "depthwise", "pointwise", "squeeze-excite")
FORMS = ("float32", "int8", "int8 alone")
"""What is timed of a convolution: in float32; in int8 between float32 neighbours, that is with
``QuantizeLinear`` before it and ``DequantizeLinear`` after it; and the int8 kernel alone, what it would be
were all its neighbours int8, too."""

_SCALE = 0.02  # of every quantized tensor: no kernel's time depends on it


class Shape(NamedTuple):
    """What the time of a convolution depends on.

    Attributes:
        image: ``(channels, height, width)`` of the input, batch size 1.
        weights: ``(out channels, in channels of a group, height, width)``.
        settings: the node's attributes, by name.
    """

    image: tuple[int, ...]
    weights: tuple[int, ...]
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def kind(self) -> Kind:
        """Of the four that these nets have; ``squeeze-excite``: pointwise on a single pixel."""
        if self.weights[1] < self.image[0]:
            return "depthwise"
        if self.weights[2:] != (1, 1):
            return "dense"
        return "squeeze-excite" if self.image[1:] == (1, 1) else "pointwise"


def one_convolution(shape: Shape, form: str) -> onnx.ModelProto:
    """A graph of one convolution, input ``x``; in int8 U8S8 with a scale for each output channel."""
    rng = np.random.default_rng(1)
    out = shape.weights[0]
    node = helper.make_node
    attributes = dict(shape.settings)
    constants: dict[str, np.ndarray]
    if form == "float32":
        constants = {
            "w": rng.normal(size=shape.weights).astype(np.float32),
            "b": rng.normal(size=out).astype(np.float32),
        }
        nodes = [node("Conv", ["x", "w", "b"], ["y"], **attributes)]
    else:
        constants = {
            "scale": np.array(_SCALE, np.float32),
            "zero": np.array(128, np.uint8),
            "w": rng.integers(-127, 128, shape.weights, np.int8),
            "w_scale": np.full(out, _SCALE, np.float32),
            "w_zero": np.zeros(out, np.int8),
            "b": rng.integers(-99, 100, out, np.int32),
            "b_scale": np.full(out, _SCALE * _SCALE, np.float32),
            "b_zero": np.zeros(out, np.int32),
        }
        alone = form == "int8 alone"
        nodes = [
            *([] if alone else [node("QuantizeLinear", ["x", "scale", "zero"], ["x_quantized"])]),
            node("DequantizeLinear", ["x" if alone else "x_quantized", "scale", "zero"], ["x_float"]),
            node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_float"], axis=0),
            node("DequantizeLinear", ["b", "b_scale", "b_zero"], ["b_float"], axis=0),
            node("Conv", ["x_float", "w_float", "b_float"], ["y_float"], **attributes),
            node("QuantizeLinear", ["y_float", "scale", "zero"], ["y" if alone else "y_quantized"]),
            *([] if alone else [node("DequantizeLinear", ["y_quantized", "scale", "zero"], ["y"])]),
        ]
    dtype = TensorProto.UINT8 if form == "int8 alone" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        form,
        [helper.make_tensor_value_info("x", dtype, [1, *shape.image])],
        [helper.make_tensor_value_info("y", dtype, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def bfloat16_support() -> str:
    """Whether ONNX Runtime has a convolution in bfloat16 for this processor, or what it says instead.

    The switch ``mlas.enable_gemm_fastmath_arm64_bfloat16`` computes float32 graphs so, on ARM only.
    """
    kind = TensorProto.BFLOAT16
    sizes = {"x": [1, 8, 8, 8], "w": [8, 8, 1, 1], "y": [1, 8, 8, 8]}
    x, w, y = (helper.make_tensor_value_info(name, kind, size) for name, size in sizes.items())
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "bfloat16", [x, w], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    try:
        open_session(model.SerializeToString())
    except Exception as error:
        # ONNX Runtime's exceptions share no public base; that it refuses is the answer looked for.
        return f"no convolution ({error})"
    return "has a convolution"
