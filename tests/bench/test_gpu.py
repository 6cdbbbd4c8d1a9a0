"""All of ``bench.gpu`` that a CPU can run; its docstring says what that leaves out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.gpu.__main__ import main
from bench.gpu.card import missing_gpu
from bench.gpu.graph import GraphError, Layer, count_layers, floor_seconds, in_half, input_shape, of_batch
from bench.gpu.raw import measure_accuracy, measure_limit, validation_images
from bench.gpu.report import floors, markdown
from bench.gpu.service import inside, status_without_gpu
from bench.gpu.session import CPU, Runner, Variant, VariantError
from models.bundle import MODEL_NAME, Bundle, load_bundle
from models.preprocess import decode
from tests.synthetic import draw_lesion
from tests.synthetic_dataset import write_dataset
from tests.tiny_bundle import tiny_graph, write_tiny_bundle
from training.data.dataset import read_dataset
from training.data.split import make_split, rows_of, write_split


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    codes = ("nv", "mel", "bkl", "df", "vasc")
    return np.stack([np.asarray(draw_lesion(rng, code=code, width=224, height=224)) for code in codes])


def test_without_a_gpu_it_says_so_in_one_line_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [CPU])
    assert main(["--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("No GPU to measure: this ONNX Runtime is built without CUDA")
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""
    assert not (tmp_path / "out").exists()


def test_a_build_for_gpus_on_a_machine_without_one_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a build lists CUDA all the same, and falls back to the CPU without a word."""
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider", CPU])
    monkeypatch.setattr("onnxruntime.preload_dlls", lambda: print("no libcublas\nno more"))

    class Session:
        def __init__(self, *_: object, **__: object) -> None: ...

        def get_providers(self) -> list[str]:
            return [CPU]

    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    assert (
        missing_gpu() == f"CUDAExecutionProvider could not be started; {CPU} was in its place; no libcublas"
    )


def test_a_rehearsal_goes_the_whole_way_on_the_cpu(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DERMASERVE_HAM10000", raising=False)
    monkeypatch.setattr("bench.images._LARGE", (40, 30))  # drawing those of 12 megapixels takes seconds
    options = (
        *("--rehearse", "--bundle", bundle.path, "--out", tmp_path, "--batches", "1,2", "--runs", "2"),
        *("--clients", "1,2", "--seconds", "0.5", "--repetitions", "2", "--tflops-fp16", "100"),
    )
    assert main([str(option) for option in options]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["rates"]["fp16"] == 100e12
    assert {entry["batch"] for entry in found["limit"]} == {1, 2}
    assert not any("error" in entry for entry in found["limit"])
    assert [(entry["graph"], entry.get("clients")) for entry in found["service"]] == [
        *(("as shipped", 1), ("as shipped", 2), ("as shipped", None)),
        *(("fp16", 1), ("fp16", 2), ("fp16", None)),
    ]
    assert load_bundle(tmp_path / "fp16").manifest.version == bundle.manifest.version
    half = onnx.load(tmp_path / "fp16" / MODEL_NAME)
    assert TensorProto.FLOAT16 in {tensor.data_type for tensor in half.graph.initializer}
    for entry in found["service"]:
        assert entry["throughput"] > 0
        assert entry["batch_mean"] >= 1
        assert sum(entry["batches"].values()) == pytest.approx(1)
        assert all(0 <= share <= 1.5 for share in entry["shares"].values())
    text = (tmp_path / "gpu.md").read_text()
    assert "A rehearsal on the CPU: no figure here is of a GPU." in text
    assert "| exit status where a GPU is demanded and missing | 1 | 1 | yes |" in text
    assert "| fp16, IOBinding, CUDA graph |" in text


def _convolution(op: str = "Conv") -> onnx.ModelProto:
    """Two images' worth of work that can be counted by hand: 3 × 3 over 3 channels to 8, then a product."""
    weights = {"w": np.ones((8, 3, 3, 3), np.float32), "b": np.ones(8, np.float32)}
    weights["m"] = np.ones((5, 6), np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(op, ["planes", "w", "b"], ["maps"], name="conv"),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("MatMul", ["positive", "m"], ["out"], name="product"),
    ]
    graph = helper.make_graph(
        nodes,
        "counted",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 6, 7, 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 8, 4, 6])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_operations_and_numbers_moved_are_those_counted_by_hand() -> None:
    maps = 8 * 4 * 5
    assert count_layers(_convolution()) == [
        Layer("conv", 2 * maps * 27, weights=8 * 27 + 8, activations=6 * 7 * 3 + maps),
        Layer("product", 2 * 8 * 4 * 6 * 5, weights=30, activations=maps + 8 * 4 * 6),
    ]


def test_what_cannot_be_counted_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _convolution()
    monkeypatch.setattr("bench.gpu.graph._CONVOLUTIONS", ("FusedConv",))
    with pytest.raises(GraphError, match="conv: Conv cannot be counted"):
        count_layers(model)


def test_the_shipped_graph_has_the_operations_that_its_networks_are_published_with(
    shipped_bundle: Path,
) -> None:
    """MobileNetV2 has 0.30 billion multiply-adds at 224 pixels, EfficientNetB1 0.7 at 240."""
    layers = count_layers(onnx.load(shipped_bundle / "model.onnx"))
    assert 0.4e9 < sum(layer.operations for layer in layers) / 2 < 1.0e9
    assert 8e6 < sum(layer.weights for layer in layers) < 10e6


def test_the_shipped_graph_answers_in_float16_too(shipped_bundle: Path, images: np.ndarray) -> None:
    model = onnx.load(shipped_bundle / "model.onnx")
    single, half = (
        Runner(model, Variant(precision, binding=True), 2, "cpu").run(images[:2])[0]
        for precision in ("fp32", "fp16")
    )
    np.testing.assert_allclose(half["probabilities"], single["probabilities"], atol=0.02)
    assert not np.array_equal(half["probabilities"], single["probabilities"])


def test_the_floor_is_the_longer_of_computing_and_moving_of_each_layer() -> None:
    layers = [Layer("dense", 1000, weights=10, activations=5), Layer("thin", 10, weights=0, activations=50)]
    seconds = floor_seconds(layers, 2, operations_per_second=100, bytes_per_second=10, width=4)
    assert seconds == 2 * 1000 / 100 + 4 * 2 * 50 / 10
    rates = {"fp32": 1e3, "tf32": 1e3, "fp16": 1e9, "bytes": 1e2}
    by = {floor["precision"]: floor["by"] for floor in floors(layers, rates, (1,))}
    assert by == {"fp32": "bytes", "tf32": "bytes", "fp16": "bytes"}
    by = {floor["precision"]: floor["by"] for floor in floors(layers, rates | {"bytes": 1e6}, (1,))}
    assert by == {"fp32": "operations", "tf32": "operations", "fp16": "bytes"}


def test_float16_changes_types_inside_but_neither_inputs_nor_answers(images: np.ndarray) -> None:
    model = tiny_graph()
    before = model.SerializeToString()
    half = in_half(model)
    assert model.SerializeToString() == before
    assert any(tensor.data_type == TensorProto.FLOAT16 for tensor in half.graph.initializer)
    assert input_shape(half) == (224, 224, 3)
    answers = {}
    for precision in ("fp32", "fp16"):
        runner = Runner(model, Variant(precision), len(images), "cpu")
        answers[precision], timing = runner.run(images)
        assert timing.total == timing.inference > 0
    for name, expected in answers["fp32"].items():
        assert answers["fp16"][name].dtype == np.float32
        np.testing.assert_allclose(answers["fp16"][name], expected, atol=0.02, err_msg=name)
    assert not np.array_equal(answers["fp16"]["probabilities"], answers["fp32"]["probabilities"])


def test_bound_memory_gives_the_same_answers_run_after_run(images: np.ndarray) -> None:
    plain = Runner(tiny_graph(), Variant("fp32"), 2, "cpu")
    bound = Runner(tiny_graph(), Variant("fp32", binding=True), 2, "cpu")
    first, _ = bound.run(images[:2])
    second, timing = bound.run(images[2:4])
    assert 0 < timing.inference <= timing.total
    for answers, batch in ((first, images[:2]), (second, images[2:4])):
        for name, expected in plain.run(batch)[0].items():
            np.testing.assert_array_equal(answers[name], expected)


def test_a_graph_of_one_batch_size_takes_no_other(images: np.ndarray) -> None:
    model = of_batch(tiny_graph(), 3)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 3
    runner = Runner(tiny_graph(), Variant("fp32"), 3, "cpu")
    assert runner.run(images[:3])[0]["probabilities"].shape == (3, 7)
    with pytest.raises(Exception, match="Expected: 3"):
        runner.run(images[:2])


def test_a_variant_that_is_not_possible_is_an_entry_with_its_reason(images: np.ndarray) -> None:
    variants = (Variant("fp32"), Variant("fp16", binding=True, tensorrt=True))
    found = list(
        measure_limit(tiny_graph(), images, "cuda", variants=variants, batches=(1,), repetitions=1, runs=1)
    )
    assert [entry["variant"] for entry in found] == ["fp32", "fp16, TensorRT, IOBinding"]
    assert "CUDAExecutionProvider is not in this build" in found[0]["error"]
    assert "TensorrtExecutionProvider is not in this build" in found[1]["error"]
    with pytest.raises(VariantError):
        Runner(tiny_graph(), Variant("fp32"), 1, "cuda")


def test_accuracy_is_against_the_cpu_and_labels_where_they_are_known(
    bundle: Bundle, images: np.ndarray
) -> None:
    model = onnx.load(bundle.model_path)
    variants = (Variant("fp32", binding=True), Variant("fp16"))
    same, half = measure_accuracy(bundle, model, images, None, "cpu", variants=variants)
    assert (same["largest_difference"], same["same_label"]) == (0.0, 1.0)
    assert 0 < half["largest_difference"] < 0.02
    assert "balanced_accuracy" not in same
    # Labels that are what the graph says, but for one of two images of a class: a half of one class is wrong.
    runner = Runner(model, Variant("fp32"), len(images), "cpu")
    said = runner.run(images)[0]["probabilities"].argmax(axis=1)
    labels = [bundle.manifest.codes[index] for index in said]
    (known,) = measure_accuracy(bundle, model, images, labels, "cpu", variants=variants[:1])
    assert known["balanced_accuracy"] == known["reference"] == 1.0
    labels[0] = next(code for code in bundle.manifest.codes if code not in labels)
    (known,) = measure_accuracy(bundle, model, images, labels, "cpu", variants=variants[:1])
    assert known["balanced_accuracy"] < 1.0


def test_the_validation_images_are_those_of_the_bundles_split(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", lesions=4)
    bundle = write_tiny_bundle(tmp_path / "bundle")
    rows = read_dataset(data)
    split = make_split(rows, seed=0, validation=0.3, test=0.1)
    write_split(bundle.path / "split.csv", rows, split)
    pixels, labels = validation_images(bundle, data)
    expected = rows_of(rows, split, "validation")
    assert labels == [row.dx for row in expected]
    assert pixels.shape == (len(expected), 224, 224, 3)
    np.testing.assert_array_equal(pixels[-1], decode(expected[-1].path.read_bytes()).pixels)


def test_a_service_that_demands_a_missing_gpu_ends_with_status_1(tmp_path: Path) -> None:
    assert status_without_gpu(tmp_path / "log") == 1
    assert "cuda" in (tmp_path / "log").read_text()


def _look(batches: int, images: int, seconds: float) -> dict[str, float]:
    look = {"batch_size_bucket 1.0": 0.0, "batch_size_bucket 4.0": batches, "batch_size_bucket +Inf": batches}
    look |= {"batch_size_sum": images, "batch_size_count": batches}
    for name, share in (
        *(("decode_duration_seconds", 0.2), ("queue_wait_seconds", 0.5)),
        *(("inference_duration_seconds", 0.1), ("request_duration_seconds", 1.0)),
    ):
        count = batches if name.startswith("inference") else images
        look |= {f"{name}_sum": share * seconds * count, f"{name}_count": count}
    return look


def test_shares_are_those_of_the_time_between_two_looks() -> None:
    found = inside(_look(10, 10, 9.0), _look(10, 10, 9.0) | _look(30, 90, 3.0), elapsed=4.0)
    assert found["batch_mean"] == 4.0
    assert found["batches"] == {"1": 0.0, "4": 1.0, "inf": 0.0}
    grown = {
        "decode": (0.2 * 270 - 18) / 80,
        "queue": (0.5 * 270 - 45) / 80,
        "inference": (0.1 * 90 - 9) / 20,
    }
    latency = (270 - 90) / 80
    assert found["shares"] == pytest.approx({part: value / latency for part, value in grown.items()})


def test_missed_targets_and_impossible_variants_stand_in_the_report() -> None:
    spread = {"median": 2.0, "low": 1.0, "high": 3.0, "repetitions": 3}
    head = {"variant": "fp32", "precision": "fp32", "batch": 1}
    load: dict[str, Any] = {
        **{"throughput": 70.0, "p50": 0.01, "p99": 0.02, "batch_mean": 2.0, "busy": 0.5},
        **{"shares": {"decode": 0.2, "queue": 0.3, "inference": 0.4}, "batches": {"1": 1.0, "inf": 0.0}},
    }
    text = markdown(
        {
            "machine": {"processor": "Abacus"},
            "card": "Slate",
            "rehearsal": "",
            "rates": {},
            "floors": [{"precision": "fp32", "batch": 1, "seconds": 0.5, "by": "bytes"}],
            "limit": [
                head | {"images_per_second": spread, "seconds": spread, "inference_seconds": spread},
                head | {"variant": "fp16, CUDA graph", "error": "no kernel for Clip"},
            ],
            "accuracy": [{"variant": "fp16, CUDA graph", "error": "no kernel for Clip"}],
            "decode_images_per_second": 100.0,
            "service": [{"graph": "fp16", "clients": 4} | load, {"graph": "fp16", "rate": 35.0} | load],
            "status_without_gpu": 0,
        }
    )
    assert "| throughput, share of what the cores decode, graph fp16 | ≥ 0.8 | 0.70 | **no** |" in text
    assert "| p99 at half load, graph fp16 | ≤ 15 ms | 20.0 ms | **no** |" in text
    assert "| exit status where a GPU is demanded and missing | 1 | 0 | **no** |" in text
    assert "- Not possible: fp16, CUDA graph: no kernel for Clip" in text
    assert "| fp32 | 0.250 |" in text
    assert "| fp32 | 1.00 (0.50–1.50) |" in text
