"""``python -m bench.gpu`` (``make bench-gpu``): all that there is to measure on a machine with an NVIDIA GPU.

The graph alone by precision, batch size and way of running it, against the card's floor, with its
accuracy; then the service on the GPU, with the bundle's graph and with that in float16. Writes JSON and
Markdown. Without a GPU that works it says so and ends with status 1. ``--rehearse`` goes the same way on
the CPU, where it is slow and shows only that the script runs; ``bench.gpu`` says which lines even that
leaves out.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from bench.gpu.card import describe_card, measure_card, missing_gpu
from bench.gpu.graph import count_layers
from bench.gpu.raw import BATCHES, measure_accuracy, measure_limit, read_pixels, validation_images
from bench.gpu.report import floors, markdown
from bench.gpu.service import (
    CLIENTS,
    HALF,
    SHIPPED,
    decode_rate,
    half_bundle,
    measure_service,
    serve,
    status_without_gpu,
)
from bench.gpu.session import PRECISIONS, VARIANTS, Device, VariantError
from bench.images import prepare_images, read_images
from bench.machine import describe_machine
from bench.servers import ROOT
from models.bundle import load_bundle
from models.errors import DermaserveError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: 0, or 1 where there is no GPU or something cannot be measured."""
    options = _parser().parse_args(arguments)
    reason = "" if options.rehearse else missing_gpu()
    if reason:
        print(f"No GPU to measure: {reason}", file=sys.stderr)
        return 1
    try:
        found = measure(options)
    except DermaserveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = markdown(found)
    (options.out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (options.out / "gpu.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as ``bench.gpu.report.markdown`` reads it; options as the command line has them.

    Raises:
        DermaserveError: the bundle cannot be used, or the service does not start or answers wrongly.
    """
    device: Device = "cpu" if options.rehearse else "cuda"
    options.out.mkdir(parents=True, exist_ok=True)
    folder = prepare_images(options.out / "images")["600x450"]
    bundle = load_bundle(options.bundle)
    model = onnx.load(bundle.model_path)
    pixels = read_pixels(bundle, read_images(folder))
    layers = count_layers(model)

    _say("the card")
    rates = _card(options, device)
    _say("the graph")
    limit = []
    for entry in measure_limit(
        model,
        pixels,
        device,
        variants=VARIANTS,
        batches=options.batches,
        repetitions=options.repetitions,
        runs=options.runs,
    ):
        _say(f"  {entry['variant']}, {entry['batch']}: {entry.get('error', 'measured')}")
        limit.append(entry)
    if all("error" in entry for entry in limit):
        raise VariantError(f"no variant of the graph runs here: {limit[0]['error']}")
    _say("accuracy")
    labels = None
    if options.data:
        pixels, labels = validation_images(bundle, options.data)
    bound = [variant for variant in VARIANTS if variant.binding]
    accuracy = list(measure_accuracy(bundle, model, pixels, labels, device, variants=bound))
    service: list[dict[str, Any]] = []
    ready = {}
    for graph, path in {SHIPPED: bundle.path, HALF: half_bundle(bundle, options.out / "fp16")}.items():
        _say(f"the service, its graph {graph}")
        with serve(path, device, options.out / f"service-{path.name}.log") as server:
            loads = measure_service(server, folder, clients=options.clients, seconds=options.seconds)
            service += ({"graph": graph} | entry for entry in loads)
        ready[graph] = server.ready_after
    return {
        "machine": describe_machine(),
        "card": "none" if options.rehearse else describe_card(),
        "rehearsal": "A rehearsal on the CPU: no figure here is of a GPU." if options.rehearse else "",
        "rates": rates,
        "layers": [asdict(layer) for layer in layers],
        "floors": floors(layers, rates, options.batches),
        "limit": limit,
        "accuracy": accuracy,
        "decode_images_per_second": decode_rate(folder, options.seconds),
        "service": service,
        "service_ready_after_seconds": ready,
        "status_without_gpu": status_without_gpu(options.out / "without.log"),
    }


def _card(options: argparse.Namespace, device: Device) -> dict[str, float]:
    """Measured, small in a rehearsal, but for what the command line gives."""
    small = {"size": 256, "count": 1 << 16} if options.rehearse else {}
    found = measure_card(device, **small)
    for precision in PRECISIONS:
        if stated := getattr(options, f"tflops_{precision}"):
            found[precision] = 1e12 * stated
    if options.bandwidth:
        found["bytes"] = 1e9 * options.bandwidth
    return found


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "ham10000-ensemble")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bench/gpu"), help="folder (default %(default)s)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("DERMASERVE_HAM10000") or None,
        help="HAM10000, for balanced accuracy on the validation split (default $DERMASERVE_HAM10000)",
    )
    parser.add_argument("--batches", type=_numbers, default=BATCHES, help="default 1,2,4,...,64")
    parser.add_argument("--clients", type=_numbers, default=CLIENTS, help="default 1,4,16,64,256")
    parser.add_argument("--repetitions", type=int, default=3, help="default %(default)s")
    parser.add_argument("--runs", type=int, default=20, help="batches of a repetition (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a load (default %(default)s)")
    for name in PRECISIONS:
        parser.add_argument(f"--tflops-{name}", type=float, help="of the card, instead of measuring it")
    parser.add_argument("--bandwidth", type=float, help="of the card in GB/s, instead of measuring it")
    parser.add_argument("--rehearse", action="store_true", help="all of it on the CPU")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(number) for number in text.split(","))
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"expected whole numbers above 0, as 1,4,16, got {text!r}")
    return found


if __name__ == "__main__":
    sys.exit(main())
