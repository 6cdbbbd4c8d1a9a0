"""What was found, as Markdown: ratios only."""

from collections.abc import Iterable, Mapping
from typing import Any

from bench.quantization.convolution import FORMS
from training.markdown import NONE, table

_LEAST = 0.005  # of the float32 run: operators that take less in every graph are summed up


def page(found: Mapping[str, Any]) -> str:
    """The whole page of what the steps wrote; a step that has not been run has no section."""
    sections = {"make": _graphs, "layers": _layers, "time": _timing, "judge": _accuracy}
    last = list(found.values())[-1]
    lines = ["# int8 on this processor", "", *_machine(last["machine"])]
    for step, section in sections.items():
        if step in found:
            lines += section(found[step])
    return "\n".join(lines).rstrip() + "\n"


def _machine(machine: Mapping[str, str]) -> list[str]:
    return [f"- {key}: {value}" for key, value in machine.items()] + [""]


def _graphs(found: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            variant["name"],
            f"{variant['activations']}{variant['weights']}",
            "channel" if variant["per_channel"] else "tensor",
            "7 bits" if variant["reduce_range"] else "8 bits",
            ", ".join(variant["operators"]) or "all",
            "each run" if variant["dynamic"] else found["ranges"],
        )
        for variant in found["graphs"]
    ]
    headings = ("graph", "activations, weights", "scale by", "weights", "operators", "ranges from")
    return ["## The graphs", "", *table(headings, rows)]


def _layers(found: Mapping[str, Any]) -> list[str]:
    kinds = found["kinds"]
    rows = [
        (
            kind,
            sum(len(layer["nodes"]) for layer in found["layers"] if layer["kind"] == kind),
            sum(
                len(layer["nodes"]) for layer in found["layers"] if layer["kind"] == kind and layer["chosen"]
            ),
            *_times_as_fast(seconds),
        )
        for kind, seconds in (kinds | {"all": _sums(kinds.values())}).items()
    ]
    rows[-1] = ("**all**", sum(row[1] for row in rows[:-1]), sum(row[2] for row in rows[:-1]), *rows[-1][3:])
    return [
        "## Each convolution alone",
        "",
        "How many times as fast as in float32; with its conversions: between float32 neighbours. A graph of "
        "the convolutions that are faster so is `chosen`.",
        "",
        *table(("kind", "convolutions", "chosen", "int8 with its conversions", "int8 kernel alone"), rows),
        *table(
            ("chosen", "weights", "input", "times", "int8 with its conversions"),
            [
                (
                    layer["kind"],
                    _by(layer["weights"]),
                    _by(layer["image"]),
                    len(layer["nodes"]),
                    f"{layer['gain']:.2f}",
                )
                for layer in found["layers"]
                if layer["chosen"]
            ],
        ),
    ]


def _by(sizes: Iterable[int]) -> str:
    return " × ".join(map(str, sizes))


def _sums(kinds: Iterable[Mapping[str, float]]) -> dict[str, float]:
    kinds = list(kinds)
    return {form: sum(seconds[form] for seconds in kinds) for form in FORMS}


def _times_as_fast(seconds: Mapping[str, float]) -> list[str]:
    return [f"{seconds['float32'] / seconds[form]:.2f}" for form in FORMS[1:]]


def _timing(found: Mapping[str, Any]) -> list[str]:
    speeds = [
        (name, f"{speed['median']:.2f} ({speed['low']:.2f}–{speed['high']:.2f})")
        for name, speed in found["speeds"].items()
    ]
    return [
        "## Speed",
        "",
        f"Batch size 1, one thread, its processor time; {found['rounds']} rounds in turns, medians of ratios "
        "within a round, in brackets the least and the greatest.",
        "",
        *table(("graph", "times as fast as float32"), speeds),
        "## Where the time goes",
        "",
        "ONNX Runtime's profiler, the quickest run of each node; percent of a float32 run.",
        "",
        *table(("operator", *found["profiles"]), profile_rows(found["profiles"])),
    ]


def profile_rows(profiles: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """Rows ``operator, percent in each graph``, percent of the first graph's whole.

    Args:
        profiles: seconds by operator, by graph. Operators that are little in all graphs are summed up.
    """
    whole = sum(next(iter(profiles.values())).values())
    operators = list(dict.fromkeys(operator for seconds in profiles.values() for operator in seconds))
    large = [
        operator
        for operator in operators
        if any(seconds.get(operator, 0) >= _LEAST * whole for seconds in profiles.values())
    ]

    def row(name: str, some: Iterable[str]) -> list[str]:
        some = list(some)
        shares = [sum(seconds.get(operator, 0) for operator in some) / whole for seconds in profiles.values()]
        return [name, *(f"{100 * share:.1f}" if share else NONE for share in shares)]

    rows = [row(operator, [operator]) for operator in large]
    if small := [operator for operator in operators if operator not in large]:
        rows.append(row("others", small))
    return [*rows, row("**all**", operators)]


def _accuracy(found: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            name,
            f"{effect['largest']:.3f}",
            f"{effect['mean']:.4f}",
            f"{100 * effect['flips']:.1f} %",
            NONE if effect["balanced_accuracy"] is None else f"{effect['balanced_accuracy']:.3f}",
        )
        for name, effect in found["effects"].items()
    ]
    headings = ("graph", "largest difference", "mean difference", "other label", "balanced accuracy")
    return ["## The probabilities", "", f"On {found['images']}, against float32.", "", *table(headings, rows)]
