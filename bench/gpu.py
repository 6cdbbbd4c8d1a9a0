"""Serving on an NVIDIA GPU, in one run: ``python -m bench.gpu``, or ``make bench-gpu``.

Measures the graph by precision and batch size with inputs and outputs in the card's memory, how far the
answers are from those of the CPU, and the service on the card by number of clients. Prints Markdown. Without
a GPU that works it says so and ends with status 1; ``--rehearse`` runs all of it on the CPU, where no figure
means anything.
"""

import argparse
import contextlib
import io
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16

from bench.images import prepare_images, read_images
from bench.load import Load
from bench.machine import describe_machine
from bench.report import table
from bench.servers import ROOT, our_service
from models.bundle import load_bundle
from models.errors import DermaserveError
from models.preprocess import decode

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
PRECISIONS = ("fp32", "tf32", "fp16")
BATCHES = (1, 4, 16, 64)
CLIENTS = (1, 4, 16, 64, 256)

Pixels = NDArray[np.uint8]


class GpuError(DermaserveError):
    """There is no GPU that works, or it cannot run this."""


class Runner:
    """One graph in one precision, ready to run batches on ``device``, ``"cuda"`` or ``"cpu"``."""

    def __init__(self, model: onnx.ModelProto, precision: str, device: str) -> None:
        """Open the session.

        Raises:
            GpuError: ONNX Runtime refuses, or puts the graph elsewhere.
        """
        graph = in_half(model) if precision == "fp16" else model
        # As the service sets it, but for TF32.
        cuda = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": str(int(precision == "tf32"))}
        providers = [(CUDA, cuda), CPU] if device == "cuda" else [CPU]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(
                graph.SerializeToString(), options, providers=providers
            )
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            raise GpuError(str(error).partition("\n")[0]) from error
        if device == "cuda" and self._session.get_providers()[0] != CUDA:
            raise GpuError(f"{CUDA} could not be started")
        self._device = device

    def run(self, pixels: Pixels) -> NDArray[np.float32]:
        """Probabilities, float32 ``[N, classes]``, of uint8 ``[N, height, width, channels]``."""
        return np.asarray(self._session.run(["probabilities"], {"image": pixels})[0])

    def seconds(self, pixels: Pixels, runs: int) -> float:
        """Median seconds of a run of the batch ``pixels``, which lies on the device already."""
        binding = self._session.io_binding()
        value = onnxruntime.OrtValue.ortvalue_from_numpy(pixels, self._device, 0)
        binding.bind_ortvalue_input("image", value)
        for output in self._session.get_outputs():
            binding.bind_output(output.name, self._device)
        times = []
        for _ in range(runs + 3):  # kernels are chosen in the first ones
            start = time.perf_counter()
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            times.append(time.perf_counter() - start)
        return statistics.median(times[3:])


def in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that computes in float16, with the same inputs and outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    empty = {tensor.name for tensor in copy.graph.initializer if 0 in tensor.dims}
    for node in copy.graph.node:
        if node.op_type == "Resize" and node.input[1] in empty:
            # ONNX Runtime 1.31 reorders the axes of this region even where it is empty, and fails.
            node.input[1] = ""
    converted: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    return converted


def missing_gpu() -> str:
    """Why no GPU can be used, in one line; empty if one can."""
    if CUDA not in onnxruntime.get_available_providers():
        return "this ONNX Runtime is built without CUDA: `make bench-gpu` installs onnxruntime-gpu"
    onnxruntime.set_default_logger_severity(4)
    with contextlib.redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls()  # NVIDIA's libraries, where pip put them; prints what it does not find
    value = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1])
    same = onnx.helper.make_tensor_value_info("same", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Neg", ["image"], ["same"])
    graph = onnx.helper.make_graph([node], "smallest", [value], [same])
    opsets = [onnx.helper.make_opsetid("", 17)]
    try:
        Runner(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), "fp32", "cuda")
    except GpuError as error:
        return str(error)
    return ""


def describe_card() -> str:
    """Name, driver, memory and power limit of the first GPU, as nvidia-smi says."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown: there is no nvidia-smi"
    query = "--query-gpu=name,driver_version,memory.total,power.limit"
    command = [program, "-i", "0", query, "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()


def measure_graph(
    model: onnx.ModelProto, pixels: Pixels, device: str, batches: Sequence[int], runs: int
) -> str:
    """A table of images per second and of the distance to the CPU's answers, by precision."""
    expected = Runner(model, "fp32", "cpu").run(pixels)
    rows = []
    for precision in PRECISIONS:
        try:
            runner = Runner(model, precision, device)
            found = runner.run(pixels)
            rates = [n / runner.seconds(pixels[np.arange(n) % len(pixels)], runs) for n in batches]
        except GpuError as error:
            rows.append([precision, str(error), *["–"] * (len(batches) + 1)])
            continue
        same = float(np.mean(found.argmax(1) == expected.argmax(1)))
        largest = float(np.abs(found - expected).max())
        rows.append([precision, *(f"{rate:.0f}" for rate in rates), f"{largest:.1e}", f"{same:.3f}"])
    head = [f"images/s, batch of {n}" for n in batches]
    return table(["precision", *head, "largest difference of a probability", "same class"], rows)


def measure_service(bundle: Path, device: str, out: Path, clients: Sequence[int], seconds: float) -> str:
    """A table of what the service answers.

    Raises:
        ServerError: it does not start.
        GpuError: it answers wrongly.
    """
    images = prepare_images(out / "images")["600x450"]
    rows = []
    with our_service(Path(sys.executable), log=out / "service.log", bundle=bundle, device=device) as server:
        for count in clients:
            load = Load(
                port=server.port, images=str(images), clients=count, seconds=seconds, warm_up=seconds / 4
            )
            command = [sys.executable, "-m", "bench.load", json.dumps(asdict(load))]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
            found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
            if not found or found["failed"]:
                raise GpuError(f"{count} clients: {found.get('reasons') or done.stderr.strip()[-400:]}")
            latencies = (f"{1000 * found[name]:.0f}" for name in ("p50", "p95"))
            rows.append([str(count), f"{found['throughput']:.1f}", *latencies])
    return table(["clients", "images/s", "p50, ms", "p95, ms"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: 0, or 1 where there is no GPU or something cannot be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "ham10000-ensemble")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/gpu"), help="folder (%(default)s)")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--runs", type=int, default=30, help="of each batch (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a load (default %(default)s)")
    parser.add_argument("--rehearse", action="store_true", help="all of it on the CPU")
    options = parser.parse_args(arguments)
    if reason := "" if options.rehearse else missing_gpu():
        print(f"No GPU to measure: {reason}", file=sys.stderr)
        return 1
    device = "cpu" if options.rehearse else "cuda"
    try:
        bundle = load_bundle(options.bundle)
        spec = bundle.manifest.input
        files = read_images(prepare_images(options.out / "images")["600x450"])[:64]
        height, width, color = spec.height, spec.width, spec.color
        pixels = np.stack([decode(d, height=height, width=width, color=color).pixels for d in files])
        model = onnx.load(bundle.model_path)
        facts = describe_machine() | {"card": "none: a rehearsal" if options.rehearse else describe_card()}
        text = "\n".join([f"- {name}: {value}" for name, value in facts.items()]) + "\n\n"
        text += measure_graph(model, pixels, device, options.batches, options.runs) + "\n"
        text += measure_service(bundle.path, device, options.out, options.clients, options.seconds)
    except DermaserveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    (options.out / "gpu.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
