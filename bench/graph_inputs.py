"""The inputs of a graph, with or without one for metadata."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def graph_inputs(session: Any, pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Return all inputs of an ONNX Runtime session for a batch of images of which nothing else is known.

    Args:
        session: of a bundle's graph.
        pixels: uint8 ``[N, height, width, channels]``.

    Returns:
        ``pixels``, and zeros for age, sex and site if the graph reads them.
    """
    return {
        node.name: pixels
        if node.type == "tensor(uint8)"
        else np.zeros((len(pixels), node.shape[1]), np.float32)
        for node in session.get_inputs()
    }
