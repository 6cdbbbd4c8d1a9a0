"""Serving on an NVIDIA GPU: ``python -m bench.gpu``, or ``make bench-gpu``.

Measures the graph by precision and batch size, with inputs and outputs in the memory of the GPU; how far the
probabilities are from the CPU's; and the service by number of clients. Prints Markdown. ``--rehearse`` runs
everything on the CPU, where the figures have no meaning.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16

from bench.graph_inputs import graph_inputs
from bench.images import prepare_images, read_images
from bench.load import Load
from bench.machine import describe_machine
from bench.peers import ROOT
from bench.rounds import run_module
from bench.servers import our_service
from models.bundle import load_bundle
from models.errors import DermaserveError
from models.preprocess import decode
from training.markdown import table

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
PRECISIONS = ("fp32", "tf32", "fp16")

Pixels = NDArray[np.uint8]


class GpuError(DermaserveError):
    """There is no usable GPU, or it cannot run the graph."""


def open_session(model: onnx.ModelProto, precision: str, device: str) -> Any:
    """A session of ``model`` in one of ``PRECISIONS``, on ``device``, ``"cuda"`` or ``"cpu"``.

    Raises:
        GpuError: ONNX Runtime cannot run the graph there.
    """
    # As the service sets it, but for TF32.
    cuda = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": str(int(precision == "tf32"))}
    providers = [(CUDA, cuda), CPU] if device == "cuda" else [CPU]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    data = (in_half(model) if precision == "fp16" else model).SerializeToString()
    try:
        session = onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no public base
        raise GpuError(str(error).partition("\n")[0]) from error
    if device == "cuda" and session.get_providers()[0] != CUDA:
        raise GpuError(f"{CUDA} could not be started")
    return session


def probabilities(session: Any, pixels: Pixels) -> NDArray[np.float32]:
    """Probabilities, float32 ``[N, classes]``, of uint8 ``[N, height, width, channels]``."""
    return np.asarray(session.run(["probabilities"], graph_inputs(session, pixels))[0])


def median_seconds(session: Any, pixels: Pixels, device: str, runs: int) -> float:
    """Seconds of a run of the batch ``pixels``, with inputs and outputs on the device."""
    binding = session.io_binding()
    for name, values in graph_inputs(session, pixels).items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(values, device, 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, device)
    times = []
    for _ in range(runs + 3):  # kernels are chosen in the first ones
        start = time.perf_counter()
        session.run_with_iobinding(binding)
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


def describe_card() -> str:
    """Name, driver, memory and power limit of the first GPU, from nvidia-smi."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown: nvidia-smi is not installed"
    query = "--query-gpu=name,driver_version,memory.total,power.limit"
    command = [program, "-i", "0", query, "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()


def measure_graph(
    model: onnx.ModelProto, pixels: Pixels, device: str, batches: Sequence[int], runs: int
) -> list[str]:
    """A table of images per second and of the distance to the CPU's probabilities, by precision."""
    expected = probabilities(open_session(model, "fp32", "cpu"), pixels)
    rows = []
    for precision in PRECISIONS:
        try:
            session = open_session(model, precision, device)
        except GpuError as error:
            rows.append([precision, *("–" for _ in batches), "–", str(error)])
            continue
        found = probabilities(session, pixels)
        repeated = {n: pixels[np.arange(n) % len(pixels)] for n in batches}
        rates = (n / median_seconds(session, batch, device, runs) for n, batch in repeated.items())
        same = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
        distance = np.abs(found - expected).max()
        rows.append([precision, *(f"{rate:.0f}" for rate in rates), f"{distance:.1e}", f"{same:.3f}"])
    head = (f"images/s, batch of {n}" for n in batches)
    return table(["precision", *head, "largest difference of a probability", "same class"], rows)


def measure_service(
    bundle: Path, images: Path, device: str, log: Path, clients: Sequence[int], seconds: float
) -> list[str]:
    """A table of throughput and latency by number of clients.

    Raises:
        DermaserveError: the service does not start, or answers wrongly.
    """
    rows = []
    with our_service(Path(sys.executable), log=log, bundle=bundle, device=device) as server:
        for n in clients:
            load = Load(port=server.port, images=str(images), clients=n, seconds=seconds, warm_up=seconds / 4)
            found = run_module(Path(sys.executable), "bench.load", json.dumps(asdict(load)))
            if found["failed"]:
                raise GpuError(f"{n} clients: {found['reasons']}")
            rows.append([n, f"{found['throughput']:.1f}", f"{1000 * found['p50']:.0f}"])
    return table(["clients", "images/s", "p50, ms"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0, or 1 without a usable GPU or if a measurement failed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "ham10000-ensemble")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/gpu"), help="folder (%(default)s)")
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 4, 16, 64))
    parser.add_argument("--clients", type=int, nargs="+", default=(1, 4, 16, 64, 256))
    parser.add_argument("--runs", type=int, default=30, help="of each batch (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a load (default %(default)s)")
    parser.add_argument("--rehearse", action="store_true", help="run everything on the CPU")
    options = parser.parse_args(arguments)
    if not options.rehearse:
        if CUDA not in onnxruntime.get_available_providers():
            reason = "this ONNX Runtime is built without CUDA: `make bench-gpu` installs onnxruntime-gpu"
            print(f"No GPU to measure: {reason}", file=sys.stderr)
            return 1
        onnxruntime.preload_dlls()  # NVIDIA's libraries, where pip put them
    device = "cpu" if options.rehearse else "cuda"
    try:
        bundle = load_bundle(options.bundle)
        spec, model = bundle.manifest.input, onnx.load(bundle.model_path)
        open_session(model, "fp32", device)  # fails without a GPU, before anything is written
        images = prepare_images(options.out / "images")["600x450"]
        read = partial(decode, height=spec.height, width=spec.width, color=spec.color)
        pixels = np.stack([read(data).pixels for data in read_images(images)[:64]])
        facts = describe_machine() | {"card": "none: a rehearsal" if options.rehearse else describe_card()}
        lines = [*(f"- {name}: {value}" for name, value in facts.items()), ""]
        lines += measure_graph(model, pixels, device, options.batches, options.runs)
        log = options.out / "service.log"
        lines += measure_service(bundle.path, images, device, log, options.clients, options.seconds)
    except DermaserveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = "\n".join(lines)
    (options.out / "gpu.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
