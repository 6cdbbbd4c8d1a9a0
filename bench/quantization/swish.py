"""The swish x · sigmoid(x), kept whole in a quantized graph.

ONNX Runtime runs it as one operator, QuickGelu. Behind a quantized convolution it does not find
it any more: it dequantizes the output for the sigmoid and for the product apart, so that the two have no
input in common. Written into the file, the operator stays.
"""

import onnx
from onnx import helper

_DOMAIN = "com.microsoft"


def fuse_swish(model: onnx.ModelProto) -> int:
    """Put QuickGelu in the place of each swish in float32; returns how many there were."""
    nodes = model.graph.node
    sigmoids = {node.output[0]: node for node in nodes if node.op_type == "Sigmoid"}
    readers: dict[str, int] = {}
    for node in nodes:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    swishes = []
    for node in nodes:
        for gate in node.input if node.op_type == "Mul" else []:
            if gate in sigmoids and readers[gate] == 1 and sigmoids[gate].input[0] in node.input:
                swishes.append((node, sigmoids[gate]))
    for product, sigmoid in swishes:
        made = helper.make_node(
            "QuickGelu", sigmoid.input, product.output, product.name, domain=_DOMAIN, alpha=1.0
        )
        product.CopyFrom(made)
        nodes.remove(sigmoid)
    if swishes and _DOMAIN not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return len(swishes)
