"""The targets of the project's performance, each with what was measured and whether it is met."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from bench.results import Results, ratio
from bench.rounds import CLIENTS, OURS
from bench.spread import Spread, spread

KERAS = "fastapi-keras"

Series = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Target:
    """One target.

    Attributes:
        title: what is measured.
        bound: the median must be at least or at most that.
        measured: over the repetitions; None where a part was not measured.
        unit: of both; nothing for a ratio.
    """

    title: str
    sense: Literal["≥", "≤"]
    bound: float
    measured: Spread | None
    unit: str = ""

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.measured is None:
            return "not measured"
        above = self.measured.median >= self.bound
        at_bound = self.measured.median == self.bound
        return "met" if above == (self.sense == "≥") or at_bound else "missed"


def targets(results: Results, peers: Sequence[str]) -> list[Target]:
    """All of them, of two cores without a GPU.

    Args:
        results: of a run.
        peers: names of the servers to compare with.
    """
    limit = results.limit("600x450")
    single = results.of("limit", "600x450", "single")

    def ours(cell: str, value: str = "throughput") -> Series:
        return results.of(OURS, cell, value)

    def share(cell: str) -> list[float]:
        return ratio(ours(cell), limit)

    raw, multipart = ours("raw 16"), ours("multipart 16")
    best_plain = _extreme(max, (results.of(peer, "plain 16", "throughput") for peer in peers))
    keras = results.of(KERAS, "multipart 16", "throughput")
    onnx_peers = [peer for peer in peers if peer != KERAS]
    faster = _against(results, onnx_peers, "throughput", max, min)
    sooner = _against(results, onnx_peers, "p99", min, max)
    return [
        Target("raw body, 16 clients, share of the limit", "≥", 0.95, _spread(share("raw 16"))),
        Target("multipart, 16 clients, share of the limit", "≥", 0.90, _spread(share("multipart 16"))),
        *(
            Target(
                f"p99 at half load, {name} arrivals, over the single-image time",
                "≤",
                2.0,
                _spread(ratio(ours(f"half {kind}", "p99"), single)),
            )
            for name, kind in (("even", "even"), ("Poisson", "poisson"))
        ),
        Target(
            "throughput with over without Grad-CAM", "≥", 0.85, _spread(ratio(ours("gradcam 16"), multipart))
        ),
        Target("throughput over the best peer's, worst client count", "≥", 1.0, _spread(faster)),
        Target("p99 over the lowest of any peer, worst client count", "≤", 1.0, _spread(sooner)),
        Target(
            "throughput over the best peer's with the plain export (224 pixels), 16 clients",
            "≥",
            1.5,
            _spread(ratio(multipart, best_plain)),
        ),
        Target("throughput over FastAPI + Keras, 16 clients", "≥", 7.0, _spread(ratio(multipart, keras))),
        Target("cost of a 12-megapixel photo over 600x450", "≤", 1.5, _spread(ratio(raw, ours("12mp 16")))),
        Target("idle processor", "≤", 1.0, _spread(_scaled(ours("process", "idle"), 100)), "% of a core"),
        Target(
            "resident memory after many requests, measured once",
            "≤",
            350.0,
            _spread(_scaled(ours("memory", "rss"), 1e-6)),
            "MB",
        ),
        Target("start to ready", "≤", 1.5, _spread(_scaled(ours("process", "ready"), 1)), "s"),
        Target(
            "images/s of the shipped graph over the plain export (224 pixels)",
            "≥",
            1.5,
            _spread(
                ratio(
                    results.of("micro", "parts", "graph, plain"),
                    results.of("micro", "parts", "graph, shipped"),
                )
            ),
        ),
    ]


def _spread(values: Sequence[float]) -> Spread | None:
    return spread(values) if values else None


def _scaled(series: Series, factor: float) -> list[float]:
    return [factor * value for value in series.values()]


def _extreme(pick: Callable[[Iterable[float]], float], series: Iterable[Series]) -> dict[int, float]:
    """The largest or smallest of several series, by repetition."""
    found: dict[int, list[float]] = {}
    for one in series:
        for repetition, value in one.items():
            found.setdefault(repetition, []).append(value)
    return {repetition: pick(values) for repetition, values in found.items()}


def _against(
    results: Results,
    peers: Sequence[str],
    value: str,
    best: Callable[[Iterable[float]], float],
    worst: Callable[..., list[float]],
) -> list[float]:
    """Our figure over the best peer's, by repetition, at the number of clients with the ``worst`` median."""
    by_clients = []
    for clients in CLIENTS:
        cell = f"multipart {clients}"
        theirs = _extreme(best, (results.of(peer, cell, value) for peer in peers))
        by_clients.append(ratio(results.of(OURS, cell, value), theirs))
    # Where one failed it may be the worst.
    whole = all(len(ratios) == results.settings.get("repetitions") for ratios in by_clients)
    return worst(by_clients, key=median) if whole else []
