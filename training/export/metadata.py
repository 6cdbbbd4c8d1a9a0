"""Adds the second input to an exported graph: age, sex and body site."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.calibration.metadata import MetadataFactors, apply_factors
from training.export.graph import ExportError
from training.export.runtime import run_graph

_TOLERANCE = 1e-5  # of float32 in the graph
_IMAGE_ONLY = "probabilities/image"


def add_checked_metadata_input(path: Path, factors: MetadataFactors, images: np.ndarray) -> None:
    """Rewrite the graph in ``path`` as ``add_metadata_input`` does, for the columns of ``factors``.

    Args:
        path: a graph without the input.
        factors: the fitted factors.
        images: uint8 ``[N, H, W, C]``, for the check.

    Raises:
        ExportError: without metadata an output differs from that of the original graph in any bit, or with
            metadata the probabilities differ from those of ``factors``.
    """
    table = factors.log_factors[factors.columns]
    before = run_graph(path, images, batch_size=8)
    add_metadata_input(path, MetadataFactors(table, factors.weight))
    without = run_graph(path, images, batch_size=8)
    for name, expected in before.items():
        if not np.array_equal(expected, without[name]):
            raise ExportError(
                f"{path.name}: {name} differs without metadata from the graph of the image alone"
            )
    rows = np.eye(len(table), dtype=np.float32)[np.arange(len(images)) % len(table)]
    found = run_graph(path, images, batch_size=8, metadata=rows)["probabilities"]
    adjusted = apply_factors(before["probabilities"].astype(np.float64), rows, factors.weight * table)
    if (difference := np.abs(found - adjusted).max()) > _TOLERANCE:
        raise ExportError(f"{path.name}: probabilities with metadata differ by {difference:.1e}")


def add_metadata_input(path: Path, factors: MetadataFactors, *, name: str = "metadata") -> None:
    """Rewrite the graph in ``path`` so that its probabilities depend on the metadata.

    A row of zeros in the new input selects the original probabilities, bit for bit. The other outputs do not
    depend on the new input.

    Args:
        path: a graph with the outputs ``training.export.runtime.OUTPUTS``.
        factors: the fitted factors.
        name: name of the new input, float32 ``[N, columns]``.
    """
    model = onnx.load(path)
    graph = model.graph
    for node in graph.node:
        for names in (node.input, node.output):
            for index, value in enumerate(names):
                if value == "probabilities":
                    names[index] = _IMAGE_ONLY
    table = (factors.weight * factors.log_factors).astype(np.float32)
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param or "N"
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, len(table)]))
    constants: dict[str, np.ndarray] = {
        "table": table,
        "axis": np.array([1], np.int64),
        "zero": np.array(0, np.float32),
    }
    for key, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(value, f"{name}/{key}"))

    def add(kind: str, inputs: list[str], output: str) -> None:
        graph.node.append(helper.make_node(kind, inputs, [output], name=output))

    add("MatMul", [name, f"{name}/table"], f"{name}/log_factors")
    add("Exp", [f"{name}/log_factors"], f"{name}/factors")
    add("Mul", [_IMAGE_ONLY, f"{name}/factors"], f"{name}/joint")
    add("ReduceSum", [f"{name}/joint", f"{name}/axis"], f"{name}/total")
    add("Div", [f"{name}/joint", f"{name}/total"], f"{name}/adjusted")
    add("ReduceSum", [name, f"{name}/axis"], f"{name}/count")
    add("Greater", [f"{name}/count", f"{name}/zero"], f"{name}/known")
    add("Where", [f"{name}/known", f"{name}/adjusted", _IMAGE_ONLY], "probabilities")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
