"""Throughput and latency by number of clients, as a picture."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.results import Results, ratio
from bench.rounds import CLIENTS, OURS
from bench.spread import spread


def plot(results: Results, titles: Mapping[str, str], path: Path) -> None:
    """Write a PNG: medians, with bars from the least to the most of the repetitions."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _lines(left, results, titles, "throughput", results.limit("600x450"))
    left.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    left.set(title="throughput, share of the limit", xlabel="clients", ylim=(0, None))
    _lines(right, results, titles, "p50", results.of("limit", "600x450", "single"))
    right.set(title="p50, multiples of the single-image time", xlabel="clients", yscale="log")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _lines(
    axes: Axes, results: Results, titles: Mapping[str, str], value: str, unit: Mapping[int, float]
) -> None:
    named = [(OURS, "raw", "this service, raw body"), (OURS, "multipart", "this service, multipart")]
    named.append((OURS, "gradcam", "this service, multipart, Grad-CAM"))
    named += [(peer, "multipart", title) for peer, title in titles.items()]
    for who, form, title in named:
        found = {n: ratio(results.of(who, f"{form} {n}", value), unit) for n in CLIENTS}
        spreads = {n: spread(values) for n, values in found.items() if values}
        if spreads:
            middle = [one.median for one in spreads.values()]
            bars = [
                [one.median - one.low for one in spreads.values()],
                [one.high - one.median for one in spreads.values()],
            ]
            style = "-" if who == OURS else "--"
            axes.errorbar(
                list(spreads), middle, yerr=bars, label=title, linestyle=style, marker="o", capsize=2
            )
    axes.set_xscale("log", base=2)
    axes.set_xticks(CLIENTS, [str(n) for n in CLIENTS])
