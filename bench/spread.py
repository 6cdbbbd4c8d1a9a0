"""Few numbers instead of many: quantiles of latencies, and the spread of repetitions."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """What repetitions gave: their median, the least and the most."""

    median: float
    low: float
    high: float
    repetitions: int


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value.

    Raises:
        ValueError: there is none.
    """
    if not values:
        raise ValueError("expected at least one value, got none")
    return Spread(statistics.median(values), min(values), max(values), len(values))


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of ``values`` that at least ``share`` of them, 0..1, do not exceed.

    One that was measured, never one in between: of 100 latencies, p99 is the second longest.

    Raises:
        ValueError: there is no value, or ``share`` is not within 0..1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"expected values and a share within 0..1, got {len(values)} values and {share}")
    # Rounded first: 0.99 * 100 is a little over 99 in binary.
    return sorted(values)[max(0, math.ceil(round(share * len(values), 9)) - 1)]


def steady_rate(cycles: Sequence[float], *, at_a_time: int) -> float:
    """Rounds per second of so many workers or clients that each begin the next when one is done.

    By Little's law: their number over the mean seconds of a round. Counting what is done within a window
    says the same, but is off by what happens to be done together at its edges.

    Args:
        cycles: seconds of each round that ended while it was measured.
        at_a_time: how many go on at any moment.

    Raises:
        ValueError: there is no round.
    """
    if not cycles:
        raise ValueError("expected at least one round, got none: measure longer")
    return at_a_time * len(cycles) / sum(cycles)
