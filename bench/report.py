"""One report as Markdown: targets, ratios within a repetition, and all figures of this machine."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Literal, NamedTuple

from bench.results import CPU, Results, ratio
from bench.rounds import CLIENTS, OURS
from bench.spread import spread

KERAS = "fastapi-keras"

_FORMS = {"raw": "raw body", "multipart": "multipart", "gradcam": "multipart, Grad-CAM"}
_NOTE = (
    "Each figure is the median of the repetitions, in brackets the least and the most of them; a ratio is "
    "formed within a repetition. The limit: the same files and graph in one process without a server. The "
    "single-image time: decoding and inference of one image there.\n"
)


class Target(NamedTuple):
    """One target: the median of ``measured`` must be at least or at most ``bound``; empty: not measured."""

    title: str
    sense: Literal["≥", "≤"]
    bound: float
    measured: Sequence[float]
    unit: str = ""

    @property
    def verdict(self) -> str:
        """In a word."""
        if not self.measured:
            return "not measured"
        found = median(self.measured)
        return "met" if (found >= self.bound if self.sense == "≥" else found <= self.bound) else "missed"


def report(results: Results, titles: Mapping[str, str]) -> str:
    """All tables.

    Args:
        results: of a run, complete or not; what was not measured is a dash.
        titles: of the peers, by name.
    """
    facts = results.machine | {name: str(value) for name, value in results.settings.items()}
    single = results.of("limit", "600x450", "single")
    sections = [
        "# Benchmark\n",
        "\n".join(f"- {name}: {value}" for name, value in facts.items()) + "\n",
        _NOTE,
        "## Targets\n",
        table(["target", "", "measured", ""], [_row(target) for target in targets(results, list(titles))]),
        "## Throughput, share of the limit\n",
        _by_clients(results, titles, "throughput", results.limit("600x450")),
        "## p50, multiples of the single-image time\n",
        _by_clients(results, titles, "p50", single),
        "## Half load, multiples of the single-image time\n",
        "Requests come whatever the server does; their latencies count from when they were due.\n",
        _open_loop(results, single),
        "## Other servers\n",
        _peers(results, titles),
        "## Absolute figures\n",
        "Seconds, bytes, images per second; idle is a share of one core.\n",
        _absolute(results),
    ]
    if failures := results.failures():
        rows = [
            (str(e.repetition + 1), e.subject, e.cell, e.error.replace("|", "/").replace("\n", " "))
            for e in failures
        ]
        sections += ["## What does not count\n", table(["repetition", "what", "cell", "why"], rows)]
    return "\n".join(sections)


def targets(results: Results, peers: Sequence[str]) -> list[Target]:
    """All of them, for two cores without a GPU; ``peers`` are the names of the servers to compare with."""
    limit, single = results.limit("600x450"), results.of("limit", "600x450", "single")

    def ours(cell: str, value: str = "throughput") -> dict[int, float]:
        return results.of(OURS, cell, value)

    raw, multipart = ours("raw 16"), ours("multipart 16")
    half = {name: ratio(ours(f"half {name}", "p95"), single) for name in ("even", "poisson")}
    onnx = [peer for peer in peers if peer != KERAS]
    keras = ratio(multipart, results.of(KERAS, "multipart 16", "throughput"))
    return [
        Target("raw body, 16 clients, share of the limit", "≥", 0.95, ratio(raw, limit)),
        Target("multipart, 16 clients, share of the limit", "≥", 0.9, ratio(multipart, limit)),
        Target("p95 at half load, even arrivals, over the single-image time", "≤", 2, half["even"]),
        Target("p95 at half load, Poisson arrivals, over the single-image time", "≤", 2, half["poisson"]),
        Target("throughput with over without Grad-CAM", "≥", 0.85, ratio(ours("gradcam 16"), multipart)),
        Target("throughput over the best peer's, worst client count", "≥", 1, _against(results, onnx)),
        Target("throughput over FastAPI + Keras, 16 clients", "≥", 7, keras),
        Target("cost of a 12-megapixel photo over 600x450", "≤", 1.5, ratio(raw, ours("12mp 16"))),
        Target("idle processor", "≤", 1, _times(100, ours("process", "idle")), "% of a core"),
        Target("resident memory after many requests", "≤", 350, _times(1e-6, ours("memory", "rss")), "MB"),
        Target("start to ready", "≤", 1.5, _times(1, ours("process", "ready")), "s"),
    ]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def shown(values: Sequence[float], digits: int = 2) -> str:
    """Median, least and most; a dash for nothing."""
    if not values:
        return "–"
    middle, low, high = (f"{value:.{digits}f}" for value in spread(values)[:3])
    return f"{middle} ({low}–{high})"


def _row(target: Target) -> tuple[str, str, str, str]:
    bound = f"{target.sense} {target.bound:g} {target.unit}".strip()
    return target.title, bound, shown(target.measured), target.verdict


def _times(factor: float, series: Mapping[int, float]) -> list[float]:
    return [factor * value for value in series.values()]


def _against(results: Results, peers: Sequence[str]) -> list[float]:
    """Our throughput over the best peer's, by repetition, at the number of clients with the worst median."""
    by_clients = []
    for clients in CLIENTS:
        theirs = [results.of(peer, f"multipart {clients}", "throughput") for peer in peers]
        best = {at: max(one[at] for one in theirs if at in one) for at in set().union(*theirs)}
        by_clients.append(ratio(results.of(OURS, f"multipart {clients}", "throughput"), best))
    # Where one failed it may be the worst.
    whole = all(len(ratios) == results.settings.get("repetitions") for ratios in by_clients)
    return min(by_clients, key=median) if whole else []


def _by_clients(results: Results, titles: Mapping[str, str], value: str, unit: Mapping[int, float]) -> str:
    """``value`` by form and number of clients, in multiples of ``unit``."""
    named = [(OURS, form, f"this service, {title}") for form, title in _FORMS.items()]
    named += [(peer, "multipart", title) for peer, title in titles.items()]
    rows = [
        [title, *(shown(ratio(results.of(who, f"{form} {n}", value), unit)) for n in CLIENTS)]
        for who, form, title in named
    ]
    return table(["clients", *map(str, CLIENTS)], rows)


def _open_loop(results: Results, single: Mapping[int, float]) -> str:
    rows = [
        [kind, *(shown(ratio(results.of(OURS, f"half {kind}", name), single)) for name in ("p50", "p95"))]
        for kind in ("even", "poisson")
    ]
    return table(["arrivals", "p50", "p95"], rows)


def _peers(results: Results, titles: Mapping[str, str]) -> str:
    of = results.of
    limit_cpu = of("limit", "600x450", CPU + results.best_shape("600x450"))
    columns: dict[str, Callable[[str], list[float]]] = {
        "this service's throughput over its": lambda who: ratio(
            of(OURS, "multipart 16", "throughput"), of(who, "multipart 16", "throughput")
        ),
        "processor time of an image, of the limit's": lambda who: ratio(
            of(who, "multipart 16", "server_cpu"), limit_cpu
        ),
        "memory, of this service's": lambda who: ratio(of(who, "process", "pss"), of(OURS, "process", "pss")),
        "start to ready, of this service's": lambda who: ratio(
            of(who, "process", "ready"), of(OURS, "process", "ready")
        ),
        "idle, % of a core": lambda who: _times(100, of(who, "process", "idle")),
    }
    rows = [
        [title, *(shown(column(who)) for column in columns.values())]
        for who, title in {OURS: "this service", **titles}.items()
    ]
    return table(["16 clients, multipart", *columns], rows)


def _absolute(results: Results) -> str:
    seen = dict.fromkeys(
        (e.subject, e.cell, value) for e in results.entries if not e.error for value in e.values
    )
    rows = []
    for key in seen:
        found = spread(list(results.of(*key).values()))
        rows.append([*key, *(f"{figure:.4g}" for figure in found[:3]), str(found.repetitions)])
    return table(["what", "cell", "figure", "median", "least", "most", "repetitions"], rows)
