"""Tables of ratios as Markdown, and an appendix of absolute figures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from bench.load import Load, due_times
from bench.queueing import queue_latencies
from bench.recorder import OUR_THREADS
from bench.results import BESIDE, CPU, Results, ratio
from bench.rounds import CLIENTS, OURS
from bench.spread import quantile, spread
from bench.targets import targets

_FORMS = {
    "raw": "raw body",
    "multipart": "multipart",
    "gradcam raw": "raw body, Grad-CAM",
    "gradcam": "multipart, Grad-CAM",
}
_NOTE = (
    "Each figure is the median of the repetitions, in brackets the least and the most of them; a ratio is "
    "formed within a repetition. Of fewer than a hundred answers in a cell, p99 is the longest."
)


def report(results: Results, titles: Mapping[str, str]) -> str:
    """Everything but absolute figures.

    Args:
        results: of a run, complete or not; what was not measured is a dash.
        titles: of the peers, by name.
    """
    single = results.of("limit", "600x450", "single")
    sections = [
        "# Benchmark\n",
        _facts(results),
        f"{_NOTE} The limit: the same files and graph in one process without a server.\n",
        "## Targets\n",
        _targets(results, list(titles)),
        "## Throughput, share of the limit\n",
        _by_clients(results, titles, "throughput", results.limit("600x450")),
        "The limit in one process, with as many threads as our service infers in, and one more that works in "
        f"Python for each image as long as our event loop did with 16 clients: {_beside(results)}.\n",
        "## p99, multiples of the single-image time\n",
        _by_clients(results, titles, "p99", single),
        "## p50, multiples of the single-image time\n",
        _by_clients(results, titles, "p50", single),
        "## p99, multiples of the mean latency\n",
        "The mean of a closed loop is its clients over its throughput (Little's law): who answers more has a "
        "shorter p99 already by that. This is what p99 has besides.\n",
        _by_clients(results, titles, "p99", None),
        "## Open loop\n",
        "Requests come whatever the server does, and their latencies count from when they were due. Half and "
        "full load are shares of what 16 clients got. At full load any queue grows for as long as it lasts, "
        "and the service refuses what comes when it is full; latencies are of the other requests. "
        "The ideal queue is the p99 of ten minutes of such arrivals at workers that cost only what the limit "
        "does; in the queue at our cost requests cost what they do here with 16 clients, and up to 2n + 1 of "
        "them share n cores, as in our threads.\n",
        _open_loop(results, single),
        "## Other servers\n",
        _peers(results, titles),
        "## Processor time of a request, shares of what an image costs the limit\n",
        f"Multipart; the busiest processes are the {results.machine['usable cores']} that took most.\n",
        _processor(results, titles),
        "## Parts, shares of the single-image time with one thread\n",
        _micro(results, results.of("limit", "600x450", "single, one thread")),
    ]
    if failures := _failures(results):
        sections += ["## What does not count\n", failures]
    return "\n".join(sections)


def appendix(results: Results) -> str:
    """Absolute figures: of this machine, at that time."""
    rows = []
    seen = dict.fromkeys(
        (entry.subject, entry.cell, value)
        for entry in results.entries
        if not entry.error
        for value in entry.values
    )
    for subject, cell, value in seen:
        found = spread(list(results.of(subject, cell, value).values()))
        rows.append(
            [subject, cell, value, *(f"{figure:.4g}" for figure in found[:3]), str(found.repetitions)]
        )
    head = ["what", "cell", "figure", "median", "least", "most", "repetitions"]
    units = "Seconds, bytes, images per second; idle is a share of one core, cores_idle of all.\n"
    return "\n".join(["# Absolute figures\n", _facts(results), units, table(head, rows)])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def shown(values: Sequence[float], digits: int = 2) -> str:
    """Median, least and most; a dash for nothing."""
    if not values:
        return "–"
    found = spread(values)
    median, low, high = (f"{value:.{digits}f}" for value in found[:3])
    return f"{median} ({low}–{high})"


def _facts(results: Results) -> str:
    facts = results.machine | {name: str(value) for name, value in results.settings.items()}
    return "\n".join(f"- {name}: {value}" for name, value in facts.items()) + "\n"


def _targets(results: Results, peers: Sequence[str]) -> str:
    rows = []
    for target in targets(results, peers):
        measured = target.measured
        found = "–" if measured is None else f"{measured.median:.2f} ({measured.low:.2f}–{measured.high:.2f})"
        bound = f"{target.sense} {target.bound:g} {target.unit}".strip()
        rows.append([target.title, bound, found, target.verdict])
    return table(["target", "", "measured", ""], rows)


def _beside(results: Results) -> str:
    return shown(ratio(results.of("limit", BESIDE, "throughput"), results.limit("600x450")))


def _by_clients(
    results: Results, titles: Mapping[str, str], value: str, unit: Mapping[int, float] | None
) -> str:
    """``value`` by form and number of clients, in multiples of ``unit``, or of the cell's mean latency."""

    def cell(who: str, form: str, clients: int) -> str:
        name = f"{form} {clients}"
        rate = results.of(who, name, "throughput")
        mean = {repetition: clients / rate[repetition] for repetition in rate}
        return shown(ratio(results.of(who, name, value), mean if unit is None else unit))

    named = [(OURS, form, f"this service, {title}") for form, title in _FORMS.items()]
    named += [(peer, "multipart", title) for peer, title in titles.items()]
    rows = [[title, *(cell(who, form, clients) for clients in CLIENTS)] for who, form, title in named]
    return table(["clients", *map(str, CLIENTS)], rows)


def _open_loop(results: Results, single: Mapping[int, float]) -> str:
    rows = []
    for load in ("half", "full"):
        for arrivals in ("even", "poisson"):
            cell = f"{load} {arrivals}"
            figures = [shown(ratio(results.of(OURS, cell, name), single)) for name in ("p50", "p99")]
            # A queue at full load has no p99 of its own: it depends on how long one looks.
            if load == "half":
                figures += [*map(shown, _queues(results, cell, arrivals, single)), "–"]
            else:
                asked = results.of(OURS, cell, "requests")
                refused = [100 * share for share in ratio(results.of(OURS, cell, "refused"), asked)]
                figures += ["–", "–", shown(refused, 1)]
            rows.append([f"{load} load, {arrivals}", *figures])
    head = ["", "p50", "p99", "p99, ideal queue", "p99, queue at our cost", "refused, %"]
    return table(head, rows)


def _queues(
    results: Results, cell: str, arrivals: Literal["even", "poisson"], single: Mapping[int, float]
) -> tuple[list[float], list[float]]:
    """p99 of the ideal queue, and of one where a request costs what it does here and shares the cores."""
    limit, cores = results.limit("600x450"), int(results.machine["usable cores"])
    most = results.of(OURS, "raw 16", "throughput")
    ideal, ours = [], []
    for at, rate in results.of(OURS, cell, "rate").items():
        if at not in limit or at not in single:
            continue
        load = Load(port=0, images="", seconds=600, warm_up=0, rate=rate, arrivals=arrivals, seed=at)
        due = list(due_times(load))
        alone = queue_latencies(due, cores=cores, at_a_time=cores, seconds=cores / limit[at])
        ideal.append(quantile(alone, 0.99) / single[at])
        if at in most:
            # As many as are decoded, and as are in inference.
            shared = queue_latencies(due, cores=cores, at_a_time=2 * cores + 1, seconds=cores / most[at])
            ours.append(quantile(shared, 0.99) / single[at])
    return ideal, ours


def _processor(results: Results, titles: Mapping[str, str]) -> str:
    """By part of a server, for each number of clients, multipart."""
    limit = results.of("limit", "600x450", CPU + results.best_shape("600x450"))
    ours = [(f"thread {name}", what) for name, what in [*OUR_THREADS.items(), ("other", "other threads")]]
    theirs = [("busiest processes", "the busiest processes"), ("other processes", "other processes")]
    rows = []
    for who, title in {OURS: "this service", **titles}.items():
        named = [*(ours if who == OURS else theirs), ("load_cpu", "load generator")]
        for value, what in named:
            found = [results.of(who, f"multipart {n}", value) for n in CLIENTS]
            rows.append([title, what, *(shown(ratio(one, limit), 3) for one in found)])
        idle = [results.of(who, f"multipart {n}", "cores_idle") for n in CLIENTS]
        percent = [shown([100 * share for share in one.values()], 1) for one in idle]
        rows.append([title, "cores idle, %", *percent])
    return table(["clients", "", *map(str, CLIENTS)], rows)


def _peers(results: Results, titles: Mapping[str, str]) -> str:
    def figure(who: str, cell: str, value: str) -> dict[int, float]:
        return results.of(who, cell, value)

    cpu = results.of("limit", "600x450", CPU + results.best_shape("600x450"))
    ours = {name: figure(OURS, "process", name) for name in ("ready", "pss")}
    mine = figure(OURS, "multipart 16", "throughput")
    rows = []
    for who, title in {OURS: "this service", **titles}.items():
        rows.append(
            [
                title,
                shown(ratio(mine, figure(who, "multipart 16", "throughput"))),
                shown(ratio(mine, figure(who, "plain 16", "throughput"))),
                shown(ratio(figure(who, "multipart 16", "server_cpu"), cpu)),
                shown(ratio(figure(who, "process", "pss"), ours["pss"])),
                shown(ratio(figure(who, "process", "ready"), ours["ready"])),
                shown([100 * share for share in figure(who, "process", "idle").values()]),
            ]
        )
    head = [
        "16 clients, multipart",
        "this service's throughput over its",
        "... over its with the plain export (224 pixels)",
        "processor time of an image, of the limit's",
        "memory, of this service's",
        "start to ready, of this service's",
        "idle, % of a core",
    ]
    return table(head, rows)


def _micro(results: Results, single: Mapping[int, float]) -> str:
    names = dict.fromkeys(
        name for entry in results.entries if entry.subject == "micro" for name in entry.values
    )
    return table(
        ["part, one thread", "share"],
        [[name, shown(ratio(results.of("micro", "parts", name), single), 4)] for name in names],
    )


def _failures(results: Results) -> str:
    rows = [
        [
            str(entry.repetition + 1),
            entry.subject,
            entry.cell,
            entry.error.replace("|", "/").replace("\n", " "),
        ]
        for entry in results.failures()
    ]
    return table(["repetition", "what", "cell", "why"], rows) if rows else ""
