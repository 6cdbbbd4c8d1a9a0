"""The report of a run: Markdown with targets, ratios and all figures, and a plot."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.results import Results, ratio, ratios
from bench.rounds import CLIENTS, OURS
from training.markdown import table

_FORMS = {"raw": "raw body", "multipart": "multipart", "gradcam": "multipart, Grad-CAM"}
_NOTE = """\
Each figure is the median of the repetitions, with the smallest and the largest in brackets. A ratio is
formed within a repetition. The limit: the same files and graph in one process without a server. The
single-image time: decoding and inference of one image there.
"""


class Target(NamedTuple):
    """The median of ``measured`` must be at least or at most ``bound``; an empty one is not measured."""

    title: str
    sense: Literal["≥", "≤"]
    bound: float
    measured: Sequence[float]
    unit: str = ""

    @property
    def verdict(self) -> str:
        """``met``, ``missed`` or ``not measured``."""
        if not self.measured:
            return "not measured"
        found = median(self.measured)
        return "met" if (found >= self.bound if self.sense == "≥" else found <= self.bound) else "missed"


def report(results: Results, titles: Mapping[str, str]) -> str:
    """All tables as Markdown.

    Args:
        results: of a run, complete or not; what is missing is a dash.
        titles: of the peers, by name.
    """
    facts = results.machine | {name: str(value) for name, value in results.settings.items()}
    single = results.of("limit", "600x450", "single")
    clients = ["clients", *map(str, CLIENTS)]
    lines = ["# Benchmark", "", *(f"- {name}: {value}" for name, value in facts.items()), "", _NOTE]
    lines += ["## Targets", ""]
    lines += table(["target", "", "measured", ""], [_row(each) for each in targets(results, list(titles))])
    lines += ["## Throughput, share of the limit", ""]
    lines += table(clients, _by_clients(results, titles, "throughput", results.limit()))
    lines += ["## p50, multiples of the single-image time", ""]
    lines += table(clients, _by_clients(results, titles, "p50", single))
    lines += ["## Half load, multiples of the single-image time", ""]
    lines += ["Requests are due whatever the server does; latency counts from then.", ""]
    lines += table(["arrivals", "p50", "p95", "p99"], _open_loop(results, single))
    lines += ["## Other servers", "", *_peers(results, titles)]
    lines += [
        "## Absolute figures",
        "",
        "Seconds, bytes, images per second, shares of one core.",
        "",
    ]
    lines += _absolute(results)
    if failures := results.failures():
        rows = [(e.repetition + 1, e.subject, e.cell, e.error.replace("\n", " ")) for e in failures]
        lines += ["## Invalid", "", *table(["repetition", "what", "cell", "reason"], rows)]
    return "\n".join(lines)


def targets(results: Results, peers: Sequence[str]) -> list[Target]:
    """The targets for two cores without a GPU; ``peers`` are the names of the servers to compare with."""
    limit, single = results.limit(), results.of("limit", "600x450", "single")

    def ours(cell: str, value: str = "throughput") -> dict[int, float]:
        return results.of(OURS, cell, value)

    raw, multipart, several = ours("raw 16"), ours("multipart 16"), CLIENTS[1:]
    poisson = ratio(ours("half poisson", "p99"), single)
    photo = ratio(ratios(raw, limit), ratios(ours("12mp 16"), results.limit(size="12mp")))
    return [
        Target("raw body, 4 clients, share of the limit", "≥", 0.85, ratio(ours("raw 4"), limit)),
        Target("raw body, 16 clients, share of the limit", "≥", 0.9, ratio(raw, limit)),
        Target("raw body, 64 clients, share of the limit", "≥", 0.9, ratio(ours("raw 64"), limit)),
        Target("multipart over raw body, 16 clients, throughput", "≥", 0.97, ratio(multipart, raw)),
        Target("with over without Grad-CAM, throughput", "≥", 0.9, ratio(ours("gradcam 16"), multipart)),
        Target(
            "throughput over the best peer's, worst of 4, 16 and 64 clients",
            "≥",
            1.15,
            _against(results, peers, "throughput", several),
        ),
        Target(
            "p95 over the best peer's, worst of 4, 16 and 64 clients",
            "≤",
            1,
            _against(results, peers, "p95", several),
        ),
        Target("p50 over the best peer's, 1 client", "≤", 1, _against(results, peers, "p50", CLIENTS[:1])),
        Target("p99 at half load, Poisson arrivals, over the single-image time", "≤", 3, poisson),
        Target("cost of a 12-megapixel photo over 600x450, over the same of the limit", "≤", 2, photo),
        Target("idle processor", "≤", 0.5, _times(100, ours("process", "idle")), "% of a core"),
        Target("resident memory after many requests", "≤", 350, _times(1e-6, ours("memory", "rss")), "MB"),
        Target("start to ready", "≤", 1, _times(1, ours("process", "ready")), "s"),
    ]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, smallest and largest; a dash for no values."""
    if not values:
        return "–"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def plot(results: Results, titles: Mapping[str, str], path: Path) -> None:
    """Throughput and latency by number of clients, as a PNG: medians, with bars over all repetitions."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _lines(left, results, titles, "throughput", results.limit())
    left.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    left.set(title="throughput, share of the limit", xlabel="clients", ylim=(0, None))
    _lines(right, results, titles, "p50", results.of("limit", "600x450", "single"))
    right.set(title="p50, multiples of the single-image time", xlabel="clients", yscale="log")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _row(target: Target) -> tuple[str, str, str, str]:
    bound = f"{target.sense} {target.bound:g} {target.unit}".strip()
    return target.title, bound, spread(target.measured), target.verdict


def _times(factor: float, series: Mapping[int, float]) -> list[float]:
    return [factor * value for value in series.values()]


def _against(results: Results, peers: Sequence[str], value: str, clients: Sequence[int]) -> list[float]:
    """``value`` over the best peer's, by repetition, at that of ``clients`` with the worst median."""
    best, worst = (max, min) if value == "throughput" else (min, max)
    by_clients = []
    for number in clients:
        theirs = [results.of(peer, f"multipart {number}", value) for peer in peers]
        bests = {at: best(one[at] for one in theirs if at in one) for at in set().union(*theirs)}
        by_clients.append(ratio(results.of(OURS, f"multipart {number}", value), bests))
    # A number of clients that failed may be the worst.
    complete = all(len(ratios) == results.settings.get("repetitions") for ratios in by_clients)
    return worst(by_clients, key=median) if complete else []


def _series(
    results: Results, titles: Mapping[str, str], value: str, unit: Mapping[int, float]
) -> dict[tuple[str, str], dict[int, list[float]]]:
    """``value`` in multiples of ``unit``: by subject and title, then by number of clients."""
    named = [(OURS, form, f"this service, {title}") for form, title in _FORMS.items()]
    named += [(peer, "multipart", title) for peer, title in titles.items()]
    return {
        (who, title): {n: ratio(results.of(who, f"{form} {n}", value), unit) for n in CLIENTS}
        for who, form, title in named
    }


def _by_clients(
    results: Results, titles: Mapping[str, str], value: str, unit: Mapping[int, float]
) -> list[list[str]]:
    series = _series(results, titles, value, unit)
    return [[title, *map(spread, found.values())] for (_, title), found in series.items()]


def _lines(
    axes: Axes, results: Results, titles: Mapping[str, str], value: str, unit: Mapping[int, float]
) -> None:
    for (who, title), by_clients in _series(results, titles, value, unit).items():
        found = {n: values for n, values in by_clients.items() if values}
        if found:
            middle = {n: median(values) for n, values in found.items()}
            bars = [
                [middle[n] - min(values) for n, values in found.items()],
                [max(values) - middle[n] for n, values in found.items()],
            ]
            style = "-" if who == OURS else "--"
            points = list(middle), list(middle.values())
            axes.errorbar(*points, yerr=bars, label=title, linestyle=style, marker="o", capsize=2)
    axes.set_xscale("log", base=2)
    axes.set_xticks(CLIENTS, [str(n) for n in CLIENTS])


def _open_loop(results: Results, single: Mapping[int, float]) -> list[list[str]]:
    return [
        [
            kind,
            *(
                spread(ratio(results.of(OURS, f"half {kind}", name), single))
                for name in ("p50", "p95", "p99")
            ),
        ]
        for kind in ("even", "poisson")
    ]


def _peers(results: Results, titles: Mapping[str, str]) -> list[str]:
    of = results.of

    def process(who: str, value: str) -> dict[int, float]:
        return of(who, "process", value)

    def throughput(who: str) -> dict[int, float]:
        return of(who, "multipart 16", "throughput")

    columns: dict[str, Callable[[str], list[float]]] = {
        "this service's throughput over its": lambda who: ratio(throughput(OURS), throughput(who)),
        "processor time of an image, of the limit's": lambda who: ratio(
            of(who, "multipart 16", "server_cpu"), results.limit("cpu")
        ),
        "memory, of this service's": lambda who: ratio(process(who, "pss"), process(OURS, "pss")),
        "start to ready, of this service's": lambda who: ratio(process(who, "ready"), process(OURS, "ready")),
        "idle, % of a core": lambda who: _times(100, process(who, "idle")),
    }
    rows = [
        [title, *(spread(column(who)) for column in columns.values())]
        for who, title in {OURS: "this service", **titles}.items()
    ]
    return table(["16 clients, multipart", *columns], rows)


def _absolute(results: Results) -> list[str]:
    seen = dict.fromkeys(
        (e.subject, e.cell, value) for e in results.entries if not e.error for value in e.values
    )
    rows = []
    for key in seen:
        found = list(results.of(*key).values())
        rows.append([*key, *(f"{of(found):.4g}" for of in (statistics.median, min, max)), len(found)])
    return table(["what", "cell", "figure", "median", "smallest", "largest", "repetitions"], rows)
