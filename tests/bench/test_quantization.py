"""Whether the choice of what to quantize follows from what is measured, on graphs of few convolutions."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.quantization.__main__ import main
from bench.quantization.accuracy import effect
from bench.quantization.convolution import FORMS, Shape, bfloat16_support, one_convolution
from bench.quantization.layers import Layer, by_kind, choose, convolutions, time_layers
from bench.quantization.page import profile_rows
from bench.quantization.timing import open_session, profile_in_turns, speeds
from bench.quantization.variants import VARIANTS, Variant, calibrate, chosen, prepare, quantize
from models.labels import HAM10000_LABELS
from tests.tiny_bundle import tiny_manifest, write_tiny_bundle

SHAPES = {
    "dense": Shape((3, 12, 12), (8, 3, 3, 3), (("pads", (1, 1, 1, 1)), ("strides", (2, 2)))),
    "depthwise": Shape((8, 6, 6), (8, 1, 3, 3), (("group", 8), ("pads", (1, 1, 1, 1)))),
    "pointwise": Shape((8, 6, 6), (16, 8, 1, 1)),
    "squeeze-excite": Shape((16, 1, 1), (16, 16, 1, 1)),
}
"""One of each kind; each reads what the one before it, pooled for the last, gives."""


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3), np.uint8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net of the four kinds of convolution with the swish of the real one, as quantization wants it."""
    folder = tmp_path_factory.mktemp("net")
    onnx.save(net(), folder / "net.onnx")
    prepare(folder / "net.onnx", folder / "prepared.onnx")
    return folder / "prepared.onnx"


@pytest.fixture(scope="module")
def ranges(prepared: Path, images: np.ndarray) -> Path:
    calibrate(prepared, images, prepared.with_name("ranges.json"))
    return prepared.with_name("ranges.json")


def net() -> onnx.ModelProto:
    rng = np.random.default_rng(2)
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["float"], "cast", to=TensorProto.FLOAT),
        node("Div", ["float", "white"], ["unit"], "scale"),
        node("Transpose", ["unit"], ["planes"], "planes", perm=[0, 3, 1, 2]),
    ]
    constants: dict[str, np.ndarray] = {"white": np.array(255, np.float32), "flat": np.array([0, -1])}
    last = "planes"
    for kind, shape in SHAPES.items():
        if kind == "squeeze-excite":
            nodes.append(node("GlobalAveragePool", [last], ["pooled"], "pool"))
            last = "pooled"
        fan_in = np.prod(shape.weights[1:])
        constants[f"{kind} w"] = rng.normal(0, fan_in**-0.5, shape.weights).astype(np.float32)
        constants[f"{kind} b"] = rng.normal(0, 0.1, shape.weights[0]).astype(np.float32)
        conv = [last, f"{kind} w", f"{kind} b"]
        nodes += [
            node("Conv", conv, [f"{kind} y"], kind, **dict(shape.settings)),
            node("Sigmoid", [f"{kind} y"], [f"{kind} gate"], f"{kind} sigmoid"),
            node("Mul", [f"{kind} y", f"{kind} gate"], [f"{kind} out"], f"{kind} swish"),
        ]
        last = f"{kind} out"
    nodes += [
        node("Reshape", [last, "flat"], ["scores"], "flatten"),
        node("Softmax", ["scores"], ["probabilities"], "softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 12, 12, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 16])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def run(model: Path, images: np.ndarray) -> np.ndarray:
    found: np.ndarray = open_session(model).run(None, {"image": images})[0]
    return found


def operators(model: Path, images: np.ndarray) -> set[str]:
    """Kinds of the operators that really run."""
    return set(profile_in_turns({"it": model}, {"it": {"image": images[:1]}}, runs=1)["it"])


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_every_variant_loads_and_stays_near_float32(
    variant: Variant, prepared: Path, ranges: Path, images: np.ndarray, tmp_path: Path
) -> None:
    quantized = tmp_path / "quantized.onnx"
    quantize(prepared, variant, ranges, quantized)
    difference = np.abs(run(quantized, images) - run(prepared, images)).max()
    assert 0 < difference < 0.02  # of probabilities around 1/16; none at all would be a graph in float32


def test_only_the_chosen_convolutions_are_quantized(
    prepared: Path, ranges: Path, images: np.ndarray, tmp_path: Path
) -> None:
    quantized = tmp_path / "chosen.onnx"
    quantize(prepared, chosen(["pointwise"]), ranges, quantized)
    convs = {node.name: node for node in onnx.load(quantized).graph.node if node.op_type == "Conv"}
    of_int8 = [name for name, node in convs.items() if node.input[1].endswith("DequantizeLinear_Output")]
    assert of_int8 == ["pointwise"]
    ran = operators(quantized, images)
    assert {"QLinearConv", "QuantizeLinear", "DequantizeLinear", "QuickGelu"} <= ran
    assert not {"Sigmoid", "Mul"} & ran  # the swish behind the quantized one is whole, too
    assert 0 < np.abs(run(quantized, images) - run(prepared, images)).max() < 0.02


def test_a_quantized_graph_runs_other_operators(
    prepared: Path, ranges: Path, images: np.ndarray, tmp_path: Path
) -> None:
    quantize(prepared, VARIANTS[1], ranges, tmp_path / "all.onnx")
    assert "QuickGelu" in operators(prepared, images)  # the swish, fused
    assert {"QLinearConv", "QLinearSigmoid", "QLinearMul"} <= operators(tmp_path / "all.onnx", images)


def test_the_convolutions_of_a_graph_are_found_with_shape_and_kind(prepared: Path) -> None:
    found = {names[0]: shape for shape, names in convolutions(onnx.load(prepared)).items()}
    assert {name: shape.kind for name, shape in found.items()} == {kind: kind for kind in SHAPES}
    for kind, shape in found.items():
        assert (shape.image, shape.weights) == (SHAPES[kind].image, SHAPES[kind].weights)


def test_a_convolution_whose_input_is_of_unknown_size_is_named() -> None:
    model = net()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "height"
    model.graph.input[0].type.tensor_type.shape.dim[1].ClearField("dim_value")
    with pytest.raises(ValueError, match="dense: expected an input of known size"):
        convolutions(model)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_single_convolution_in_int8_is_one_kernel_and_its_conversions(kind: str) -> None:
    shape = SHAPES[kind]
    models = {form: one_convolution(shape, form).SerializeToString() for form in FORMS}
    dtypes = {"float32": np.float32, "int8": np.float32, "int8 alone": np.uint8}
    feeds = {form: {"x": np.ones((1, *shape.image), dtype)} for form, dtype in dtypes.items()}
    ran = {form: set(seconds) for form, seconds in profile_in_turns(models, feeds, runs=1).items()}
    assert not any("Linear" in operator for operator in ran["float32"])
    assert {"QuantizeLinear", "QLinearConv", "DequantizeLinear"} <= ran["int8"]
    assert "QLinearConv" in ran["int8 alone"]
    assert not {"QuantizeLinear", "DequantizeLinear"} & ran["int8 alone"]


def test_every_shape_is_timed_in_every_form(prepared: Path) -> None:
    layers = time_layers(onnx.load(prepared), rounds=1)
    assert {layer.nodes for layer in layers} == {(kind,) for kind in SHAPES}
    assert all(set(layer.seconds) == set(FORMS) and min(layer.seconds.values()) > 0 for layer in layers)


def layer(kind: str, nodes: tuple[str, ...], float32: float, int8: float) -> Layer:
    return Layer(SHAPES[kind], nodes, {"float32": float32, "int8": int8, "int8 alone": int8 / 2})


def test_a_layer_is_chosen_if_int8_is_clearly_faster_with_its_conversions() -> None:
    layers = [
        layer("pointwise", ("a", "b"), 3.0, 2.0),
        layer("depthwise", ("c",), 2.0, 3.0),
        layer("dense", ("within the spread",), 1.0, 0.99),
    ]
    assert choose(layers) == ["a", "b"]
    assert by_kind(layers) == {
        "dense": {"float32": 1.0, "int8": 0.99, "int8 alone": 0.495},
        "depthwise": {"float32": 2.0, "int8": 3.0, "int8 alone": 1.5},
        "pointwise": {"float32": 6.0, "int8": 4.0, "int8 alone": 2.0},
    }


def test_speeds_are_medians_of_ratios_within_a_round() -> None:
    # The machine was half as fast in the second round: that is not the graph's doing.
    found = speeds({"float32": [2.0, 4.0, 2.0], "int8": [1.0, 2.0, 4.0]}, "float32")
    assert found["int8"].median == 2.0
    assert (found["int8"].low, found["int8"].high) == (0.5, 2.0)
    assert found["float32"].median == found["float32"].low == 1.0


def test_the_profile_table_adds_up_to_the_whole() -> None:
    profiles = {"float32": {"Conv": 6.0, "Mul": 1.99, "Cast": 0.01}, "int8": {"QLinearConv": 3.0, "Mul": 1.0}}
    rows = profile_rows(profiles)
    assert rows == [
        ["Conv", "75.0", "–"],
        ["Mul", "24.9", "12.5"],
        ["QLinearConv", "–", "37.5"],
        ["others", "0.1", "–"],
        ["**all**", "100.0", "50.0"],
    ]


def test_the_effect_is_measured_on_probabilities_labels_and_accuracy() -> None:
    manifest = tiny_manifest("rgb", 224, 224, HAM10000_LABELS)
    reference = np.eye(7, dtype=np.float32)[[0, 1, 2, 3]]
    found = reference.copy()
    found[0] = np.roll(found[0], 1)
    measured = effect(manifest, reference, found, np.array([0, 1, 2, 3]))
    assert (measured.largest, measured.flips, measured.balanced_accuracy) == (1.0, 0.25, 0.75)
    assert measured.mean == pytest.approx(2 / 28)
    assert effect(manifest, reference, found, None).balanced_accuracy is None


def test_onnx_runtime_says_whether_it_convolves_in_bfloat16() -> None:
    assert "convolution" in bfloat16_support()


def test_all_steps_on_a_bundle_write_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DERMASERVE_HAM10000", raising=False)
    write_tiny_bundle(tmp_path / "bundle")
    few = ["--rounds", "2", "--calibration-images", "2", "--validation-images", "2"]
    main(["--bundle", str(tmp_path / "bundle"), "--out", str(tmp_path / "out"), *few])
    found = json.loads((tmp_path / "out" / "quantization.json").read_text())
    assert set(found) == {"make", "layers", "time", "judge"}
    assert set(found["time"]["speeds"]) >= {"float32", "naive", "all", "dynamic"}
    assert found["judge"]["effects"]["float32"]["largest"] == 0
    text = (tmp_path / "out" / "quantization.md").read_text()
    assert "2 drawn lesions" in text
    for heading in (
        "The graphs",
        "Each convolution alone",
        "Speed",
        "Where the time goes",
        "The probabilities",
    ):
        assert f"## {heading}\n" in text


def test_graphs_of_another_bundle_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DERMASERVE_HAM10000", raising=False)
    out = ["--out", str(tmp_path / "out"), "--calibration-images", "1"]
    for seed in range(2):
        write_tiny_bundle(tmp_path / str(seed), seed=seed)
    main(["--bundle", str(tmp_path / "0"), *out, "--steps", "make"])
    with pytest.raises(SystemExit):
        main(["--bundle", str(tmp_path / "1"), *out, "--steps", "judge"])
    assert "--steps judge: expected graphs of this bundle" in capsys.readouterr().err
