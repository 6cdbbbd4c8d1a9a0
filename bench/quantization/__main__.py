"""Whether int8 pays on this processor, and why: ``python -m bench.quantization [--steps STEP ...]``.

Four steps, by default all of them in this order:

    make     quantizes the bundle's graph in several ways
    layers   times each convolution alone, and makes the graph with those that gain by int8
    time     times the graphs in turns, and profiles them
    judge    compares their probabilities, and their accuracy where the data set is

``layers`` and ``time`` want a quiet machine, for a minute; the others take minutes of one core. Each step
keeps what it found in the output folder; quantization.md and quantization.json are written anew after it.
"""

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from bench.machine import describe_machine
from bench.quantization.accuracy import effect, probabilities
from bench.quantization.convolution import bfloat16_support
from bench.quantization.layers import by_kind, choose, time_layers
from bench.quantization.page import page
from bench.quantization.pictures import pictures
from bench.quantization.timing import open_session, profile_in_turns, speeds, time_in_turns
from bench.quantization.variants import NAIVE, VARIANTS, calibrate, chosen, prepare, quantize
from bench.servers import ROOT
from models.bundle import Bundle, load_bundle

_FLOAT32, _CHOSEN = "float32", "chosen"
_PROFILED = (_FLOAT32, NAIVE.name, "all", "all-s8s8", "dynamic", _CHOSEN)
_PREPARED, _RANGES = "prepared.onnx", "ranges.json"
_PROFILED_RUNS = 15

Found = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ``arguments`` instead of the program's."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.getLogger().setLevel(logging.ERROR)  # the quantizer warns of every node that it leaves alone
    graphs: Path = options.out / "graphs"
    graphs.mkdir(parents=True, exist_ok=True)
    bundle = load_bundle(options.bundle)
    for step in options.steps:
        if step != "make" and "make" not in _kept(options.out, bundle):
            parser.error(
                f"--steps {step}: expected graphs of this bundle in {graphs}; run the step make first"
            )
        facts = describe_machine() | {"bfloat16 in ONNX Runtime": bfloat16_support()}
        found = {"bundle": bundle.digest, "machine": facts} | STEPS[step](bundle, graphs, options)
        (options.out / f"{step}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        kept = _kept(options.out, bundle)
        (options.out / "quantization.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        (options.out / "quantization.md").write_text(page(kept), encoding="utf-8")
    print(options.out / "quantization.md")


def make(bundle: Bundle, graphs: Path, options: argparse.Namespace) -> Found:
    """Calibrate, and write every variant but the chosen one."""
    calibration = pictures(bundle, "train", options.calibration_images)
    prepare(bundle.model_path, graphs / _PREPARED)
    calibrate(graphs / _PREPARED, calibration.pixels, graphs / _RANGES)
    for old in _graphs(graphs):
        old.unlink()
    for variant in VARIANTS:
        quantize(graphs / _PREPARED, variant, graphs / _RANGES, graphs / f"{variant.name}.onnx")
    return {"ranges": calibration.source, "graphs": [asdict(variant) for variant in VARIANTS]}


def layers(bundle: Bundle, graphs: Path, options: argparse.Namespace) -> Found:
    """Time each convolution alone; write the chosen variant, if there is anything to choose."""
    timed = time_layers(onnx.load(graphs / _PREPARED), options.rounds)
    nodes = choose(timed)
    (graphs / f"{_CHOSEN}.onnx").unlink(missing_ok=True)
    if nodes:
        quantize(graphs / _PREPARED, chosen(nodes), graphs / _RANGES, graphs / f"{_CHOSEN}.onnx")
    listed = [
        {"kind": layer.shape.kind, "image": layer.shape.image, "weights": layer.shape.weights}
        | {
            "nodes": layer.nodes,
            "seconds": layer.seconds,
            "gain": layer.gain,
            "chosen": layer.nodes[0] in nodes,
        }
        for layer in timed
    ]
    return {"layers": listed, "kinds": by_kind(timed)}


def time(bundle: Bundle, graphs: Path, options: argparse.Namespace) -> Found:
    """Time all graphs in turns, and profile those that differ in what they run."""
    feed = {bundle.manifest.input.name: pictures(bundle, "validation", 1).pixels}
    models = {_FLOAT32: bundle.model_path} | {graph.stem: graph for graph in _graphs(graphs)}
    sessions = {name: open_session(model) for name, model in models.items()}
    feeds = dict.fromkeys(models, feed)
    seconds = time_in_turns(sessions, feeds, options.rounds)
    profiled = {name: models[name] for name in _PROFILED if name in models}
    return {
        "rounds": options.rounds,
        "seconds": seconds,
        "speeds": {name: speed._asdict() for name, speed in speeds(seconds, _FLOAT32).items()},
        "profiles": profile_in_turns(profiled, feeds, _PROFILED_RUNS),
    }


def judge(bundle: Bundle, graphs: Path, options: argparse.Namespace) -> Found:
    """Compare every graph's probabilities with those of float32."""
    images = pictures(bundle, "validation", options.validation_images)
    reference = probabilities(bundle.model_path, images.pixels)
    found = {_FLOAT32: reference}
    found |= {graph.stem: probabilities(graph, images.pixels) for graph in _graphs(graphs)}
    effects = {
        name: asdict(effect(bundle.manifest, reference, values, images.labels))
        for name, values in found.items()
    }
    return {"images": images.source, "effects": effects}


STEPS: dict[str, Callable[[Bundle, Path, argparse.Namespace], Found]] = {
    step.__name__: step for step in (make, layers, time, judge)
}


def _kept(out: Path, bundle: Bundle) -> dict[str, Found]:
    """What the steps found in this run and in earlier ones with the same bundle."""
    files = [file for step in STEPS if (file := out / f"{step}.json").exists()]
    found = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    return {step: facts for step, facts in found.items() if facts["bundle"] == bundle.digest}


def _graphs(graphs: Path) -> list[Path]:
    """The quantized ones there are, in the order of ``VARIANTS``, the chosen one last."""
    names = [*(variant.name for variant in VARIANTS), _CHOSEN]
    return [file for name in names if (file := graphs / f"{name}.onnx").exists()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.quantization",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "ham10000-ensemble")
    parser.add_argument("--out", type=Path, default=Path("runs", "bench-quantization"), help="folder")
    parser.add_argument("--calibration-images", type=int, default=8)
    parser.add_argument("--validation-images", type=int, help="default: all there are, or 64 drawn ones")
    parser.add_argument("--rounds", type=int, default=15, help="of every timing")
    return parser


if __name__ == "__main__":
    main()
