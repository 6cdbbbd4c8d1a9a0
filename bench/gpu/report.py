"""What ``bench.gpu`` found, as Markdown: ratios, but for the one target that is a time."""

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any

from bench.gpu.graph import Layer, floor_seconds
from bench.report import table

LEAST_OF_DECODE, LONGEST_P99 = 0.8, 0.015
"""Targets: the service's throughput as a share of what the cores decode; seconds at half load."""

_WIDTH = {"fp32": 4, "tf32": 4, "fp16": 2}  # bytes of a number in memory


def floors(layers: list[Layer], rates: dict[str, float], batches: Sequence[int]) -> list[dict[str, Any]]:
    """By precision and batch size: ``seconds`` of the floor, and what bounds it more, ``by``.

    Args:
        layers: of the graph.
        rates: operations per second by precision, and ``bytes`` per second.
        batches: sizes.
    """
    found = []
    for precision, width in _WIDTH.items():
        for batch in batches:
            least = partial(floor_seconds, layers, batch, width=width)
            operations = least(operations_per_second=rates[precision], bytes_per_second=inf)
            moved = least(operations_per_second=inf, bytes_per_second=rates["bytes"])
            both = least(operations_per_second=rates[precision], bytes_per_second=rates["bytes"])
            by = "operations" if operations > moved else "bytes"
            found.append({"precision": precision, "batch": batch, "seconds": both, "by": by})
    return found


def markdown(found: dict[str, Any]) -> str:
    """What ``bench.gpu.__main__.measure`` found."""
    facts = [f"- {name}: {value}" for name, value in {**found["machine"], "card": found["card"]}.items()]
    return "\n".join(
        [
            "# Benchmark on a GPU\n",
            *facts,
            "",
            *([f"**{found['rehearsal']}**\n"] if found["rehearsal"] else []),
            "## Targets\n",
            _targets(found),
            "## The graph\n",
            _relative_speed(found["limit"]),
            _share_of_floor(found),
            _by_batch("copying, share of a batch's time", found["limit"], _copying),
            _impossible(found["limit"]),
            "The floor of a layer is its operations over the card's rate or its bytes over the card's "
            "bandwidth, whichever is longer; the graph's is the sum. "
            f"More of it is due to: {_bounds(found['floors'])}.\n",
            "## Accuracy, against fp32 on the CPU\n",
            _accuracy(found["accuracy"]),
            "## The service\n",
            _service(found),
            _batches(found["service"]),
        ]
    )


def _targets(found: dict[str, Any]) -> str:
    rows = []
    for graph in dict.fromkeys(entry["graph"] for entry in found["service"]):
        loads = [entry for entry in found["service"] if entry["graph"] == graph]
        share = max(load["throughput"] for load in loads if "clients" in load)
        share /= found["decode_images_per_second"]
        p99 = next(load["p99"] for load in loads if "rate" in load)
        rows += [
            (
                f"throughput, share of what the cores decode, graph {graph}",
                f"≥ {LEAST_OF_DECODE}",
                f"{share:.2f}",
                share >= LEAST_OF_DECODE,
            ),
            (
                f"p99 at half load, graph {graph}",
                f"≤ {LONGEST_P99 * 1000:.0f} ms",
                f"{p99 * 1000:.1f} ms",
                p99 <= LONGEST_P99,
            ),
        ]
    status = found["status_without_gpu"]
    rows.append(("exit status where a GPU is demanded and missing", "1", str(status), status == 1))
    head = ("target", "", "measured", "met")
    return table(head, [(*row, "yes" if met else "**no**") for *row, met in rows])


def _by_batch(title: str, limit: list[dict[str, Any]], cell: Callable[[dict[str, Any]], str]) -> str:
    """A row for each variant, a column for each batch size."""
    entries = {(e["variant"], e["batch"]): e for e in limit if "error" not in e}
    batches = sorted({batch for _, batch in entries})
    variants = list(dict.fromkeys(variant for variant, _ in entries))
    rows = [
        [variant, *(cell(entries[variant, b]) if (variant, b) in entries else "–" for b in batches)]
        for variant in variants
    ]
    return table([title, *map(str, batches)], rows)


def _relative_speed(limit: list[dict[str, Any]]) -> str:
    first = next(entry for entry in limit if "error" not in entry)
    reference = first["images_per_second"]["median"]

    def cell(entry: dict[str, Any]) -> str:
        figures = (entry["images_per_second"][key] / reference for key in ("median", "low", "high"))
        return "{:.2f} ({:.2f}–{:.2f})".format(*figures)

    return _by_batch(f"images/s, {first['variant']} in batches of {first['batch']} = 1", limit, cell)


def _share_of_floor(found: dict[str, Any]) -> str:
    least = {(floor["precision"], floor["batch"]): floor["seconds"] for floor in found["floors"]}

    def cell(entry: dict[str, Any]) -> str:
        return f"{least[entry['precision'], entry['batch']] / entry['inference_seconds']['median']:.3f}"

    return _by_batch("floor, share of the inference's time", found["limit"], cell)


def _copying(entry: dict[str, Any]) -> str:
    """Only what is bound to the device's memory tells copies from inference."""
    if "IOBinding" not in entry["variant"]:
        return "–"
    return f"{1 - entry['inference_seconds']['median'] / entry['seconds']['median']:.2f}"


def _impossible(limit: list[dict[str, Any]]) -> str:
    reasons = dict.fromkeys((entry["variant"], entry["error"]) for entry in limit if "error" in entry)
    return "\n".join(f"- Not possible: {variant}: {reason}" for variant, reason in reasons) + "\n"


def _bounds(found: list[dict[str, Any]]) -> str:
    return ", ".join(f"{f['by']} ({f['precision']}, {f['batch']})" for f in found)


def _accuracy(entries: list[dict[str, Any]]) -> str:
    def balanced(entry: dict[str, Any]) -> str:
        if "balanced_accuracy" not in entry:
            return "not measured: no labels"
        return f"{entry['balanced_accuracy'] - entry['reference']:+.4f} of {entry['reference']:.4f}"

    rows = [
        [
            entry["variant"],
            *(
                [entry["error"], "–", "–", "–"]
                if "error" in entry
                else [
                    f"{entry['largest_difference']:.1e}",
                    f"{entry['same_label']:.4f}",
                    balanced(entry),
                    str(entry["images"]),
                ]
            ),
        ]
        for entry in entries
    ]
    head = ("variant", "largest difference of a probability", "same label", "balanced accuracy", "images")
    return table(head, rows)


def _service(found: dict[str, Any]) -> str:
    single = found["service"][0]["p50"]
    rows = []
    for entry in found["service"]:
        shares = entry["shares"]
        rows.append(
            [
                _load(entry),
                f"{entry['throughput'] / found['decode_images_per_second']:.2f}",
                *(f"{entry[name] / single:.2f}" for name in ("p50", "p99")),
                f"{entry['batch_mean']:.1f}",
                *(f"{shares[part]:.2f}" for part in ("decode", "queue", "inference")),
                f"{entry['busy']:.2f}",
            ]
        )
    head = (
        *("graph, load", "throughput, decoding = 1", "p50, of the first row = 1", "p99", "mean batch"),
        *("decode, share of latency", "queue", "inference", "inference runs, share of the time"),
    )
    return table(head, rows)


def _load(entry: dict[str, Any]) -> str:
    load = f"{entry['clients']} clients" if "clients" in entry else "half load, Poisson"
    return f"{entry['graph']}, {load}"


def _batches(entries: list[dict[str, Any]]) -> str:
    bounds = [bound for bound in entries[0]["batches"] if bound != "inf"]
    rows = [
        [
            _load(entry),
            *(f"{entry['batches'][b]:.2f}" for b in bounds),
        ]
        for entry in entries
    ]
    return table(["share of batches of up to so many images", *bounds], rows)
