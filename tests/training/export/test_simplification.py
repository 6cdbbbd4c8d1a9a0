"""The simplified graph: equal outputs, fewer operations."""

from collections import Counter
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from training.calibration.combination import Combination
from training.calibration.fit import Calibration
from training.calibration.out_of_distribution import OutOfDistribution
from training.export.graph import export_onnx
from training.export.runtime import OUTPUTS, run_graph
from training.export.simplification import simplify
from training.network.build import FEATURES, build_network
from training.recipe import MemberRecipe

SIZE = (64, 64)
CLASSES = 3


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the graph of an untrained ensemble before and after; its second member reads smaller images."""
    keras.utils.set_random_seed(1)
    first = MemberRecipe("first", "mobilenet_v2", (), starting_weights="none")
    second = MemberRecipe("second", "efficientnet_b0", (), starting_weights="none", image_size=48)
    networks = [
        build_network(first, CLASSES, size=SIZE),
        build_network(second, CLASSES, size=(48, 48), resize=True),
    ]
    widths = [network.get_layer(FEATURES).output.shape[-1] for network in networks]
    calibration = Calibration(
        combination=Combination("mean", (0.6, 0.4), ((), ())),
        temperatures=(1.0, 0.5),
        log_prior_shifts=((0.0,) * CLASSES,) * 2,
        prior=(1 / CLASSES,) * CLASSES,
        tau=0.0,
        threshold=0.5,
    )
    outliers = OutOfDistribution.fit(np.random.default_rng(0).normal(size=(64, sum(widths))), widths)
    folder = tmp_path_factory.mktemp("graphs")
    plain, simplified = folder / "plain.onnx", folder / "simplified.onnx"
    export_onnx(networks, calibration, outliers, size=SIZE, channels=3, path=plain)
    simplified.write_bytes(plain.read_bytes())
    simplify(simplified)
    return plain, simplified


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_outputs_are_equal(graphs: tuple[Path, Path], batch_size: int) -> None:
    images = np.random.default_rng(2).integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)
    images[0], images[1] = 0, 255  # edges too: the padding of the first convolutions is not black
    plain, simplified = (run_graph(path, images, batch_size=batch_size) for path in graphs)
    for name in OUTPUTS:
        assert simplified[name] == pytest.approx(plain[name], rel=1e-3, abs=1e-5), name


def test_the_only_operation_on_every_pixel_is_a_subtraction(graphs: tuple[Path, Path]) -> None:
    graph = onnx.load(graphs[1]).graph
    on_pixels = {"image"}
    operations = []
    for node in graph.node:
        if node.op_type != "Conv" and on_pixels.intersection(node.input):
            operations.append(node.op_type)
            on_pixels.update(node.output)
    assert operations == ["Transpose", "Cast", "Resize", "Sub", "Sub"]


def test_squeeze_and_excite_blocks_have_no_reshape(graphs: tuple[Path, Path]) -> None:
    nodes = [list(onnx.load(path).graph.node) for path in graphs]
    follows = []
    for graph in nodes:
        pooled = {node.output[0] for node in graph if node.op_type == "GlobalAveragePool"}
        follows.append(Counter(node.op_type for node in graph if pooled.intersection(node.input)))
    before, after = follows
    assert before == {"Squeeze": 16 + 2}  # the blocks, and the two heads
    assert after == {"Conv": 16, "Squeeze": 2}


def test_batch_normalisation_and_padding_are_folded_into_the_convolutions(graphs: tuple[Path, Path]) -> None:
    graph = onnx.load(graphs[1]).graph
    assert all(node.op_type not in ("Pad", "BatchNormalization") for node in graph.node)
    after_convolution = {node.output[0] for node in graph.node if node.op_type == "Conv"}
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Add", "Mul") and after_convolution.intersection(node.input):
            assert not constants.intersection(node.input), node


def test_the_file_is_plain_onnx(graphs: tuple[Path, Path]) -> None:
    model = onnx.load(graphs[1])
    onnx.checker.check_model(model, full_check=True)
    assert [known.domain for known in model.opset_import] == [""]
    assert [output.name for output in model.graph.output] == [
        output.name for output in onnx.load(graphs[0]).graph.output
    ]


def test_a_graph_without_a_foldable_scaling_is_unchanged(tmp_path: Path) -> None:
    """A maximum between the image and the convolution prevents the folding."""
    helper, tensor = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=tensor.FLOAT),
        helper.make_node("Max", ["float", "floor"], ["bounded"]),
        helper.make_node("Transpose", ["bounded"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["probabilities"], kernel_shape=[1, 1]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.array(10, np.float32), "floor"),
        onnx.numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "kernel"),
    ]
    image = helper.make_tensor_value_info("image", tensor.UINT8, ["N", 4, 4, 3])
    output = helper.make_tensor_value_info("probabilities", tensor.FLOAT, ["N", 2, 4, 4])
    graph = helper.make_graph(nodes, "graph", [image], [output], constants)
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    simplify(path)
    assert [node.op_type for node in onnx.load(path).graph.node] == ["Cast", "Max", "Transpose", "Conv"]


def test_a_reshape_of_a_scalar_to_a_vector_is_kept(tmp_path: Path) -> None:
    helper, tensor = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["largest"], keepdims=0),
        helper.make_node("Reshape", ["largest", "vector"], ["probabilities"]),
    ]
    constants = [onnx.numpy_helper.from_array(np.array([-1], np.int64), "vector")]
    image = helper.make_tensor_value_info("image", tensor.UINT8, ["N", 4, 4, 3])
    output = helper.make_tensor_value_info("probabilities", tensor.UINT8, [1])
    graph = helper.make_graph(nodes, "graph", [image], [output], constants)
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    simplify(path)
    assert [node.op_type for node in onnx.load(path).graph.node] == ["ReduceMax", "Reshape"]
