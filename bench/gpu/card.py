"""What the device can do at best: operations and bytes per second of a large product and a large copy."""

import contextlib
import io
import shutil
import statistics
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from bench.gpu.session import CUDA, PRECISIONS, Device, Precision, Variant, VariantError, open_session

PRODUCT, COPY = 8192, 1 << 28
"""Rows and columns of the product; numbers of the copy, 1 GiB."""

_RUNS = 10


def missing_gpu() -> str:
    """Why no GPU can be used, in one line; empty if one can."""
    if CUDA not in onnxruntime.get_available_providers():
        return "this ONNX Runtime is built without CUDA: `make bench-gpu` installs onnxruntime-gpu"
    onnxruntime.set_default_logger_severity(4)  # none: one line of ours says it
    # Finds NVIDIA's libraries where pip put them, as the service does; prints what it does not find.
    with contextlib.redirect_stdout(io.StringIO()) as said:
        onnxruntime.preload_dlls()
    try:
        open_session(_product(16, TensorProto.FLOAT), Variant("fp32"), "cuda")
    except VariantError as error:
        return "; ".join([str(error), *said.getvalue().splitlines()[:1]])
    return ""


def describe_card() -> str:
    """Name, driver, memory and largest clock of the first GPU, as nvidia-smi says."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown: there is no nvidia-smi"
    fields = "name,driver_version,memory.total,clocks.max.sm,power.limit"
    command = [program, "-i", "0", f"--query-gpu={fields}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() or "unknown: nvidia-smi gave nothing"


def operations_per_second(precision: Precision, device: Device, size: int = PRODUCT) -> float:
    """Of a square matrix product, 2 · size³ operations."""
    number = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.FLOAT
    seconds = _fastest(_product(size, number), precision, device, [(size, size)] * 2)
    return 2 * size**3 / seconds


def bytes_per_second(device: Device, count: int = COPY) -> float:
    """Of reading and writing ``count`` numbers of 4 bytes."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [count]) for n in ("a", "c")]
    graph = helper.make_graph([helper.make_node("Neg", ["a"], ["c"])], "copy", values[:1], values[1:])
    return 2 * 4 * count / _fastest(_model(graph), "fp32", device, [(count,)])


def measure_card(device: Device, *, size: int = PRODUCT, count: int = COPY) -> dict[str, float]:
    """Operations per second by precision, and ``bytes``: bytes per second."""
    found = {"bytes": bytes_per_second(device, count)}
    return found | {precision: operations_per_second(precision, device, size) for precision in PRECISIONS}


def _product(size: int, number: int) -> onnx.ModelProto:
    a, b, c = (helper.make_tensor_value_info(name, number, [size, size]) for name in "abc")
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    return _model(helper.make_graph([node], "product", [a, b], [c]))


def _model(graph: Any) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _fastest(
    model: onnx.ModelProto, precision: Precision, device: Device, shapes: Sequence[tuple[int, ...]]
) -> float:
    """Median seconds of a run whose inputs and outputs stay in the device's memory."""
    session = open_session(model, Variant(precision), device)
    dtype = np.float16 if precision == "fp16" and len(shapes) == 2 else np.float32
    binding = session.io_binding()
    for name, shape in zip("ab", shapes, strict=False):
        value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ones(shape, dtype), device, 0)
        binding.bind_ortvalue_input(name, value)
    binding.bind_output("c", device)
    times = []
    for _ in range(_RUNS + 1):
        start = time.perf_counter()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
