"""What of a latency is the queue's own: the same arrivals at workers that cost nothing but the work."""

import heapq
from collections.abc import Iterable


def ideal_latencies(due: Iterable[float], *, workers: int, seconds: float) -> list[float]:
    """Latencies of requests that come at ``due`` to so many workers, first come, first served.

    Args:
        due: seconds, rising.
        workers: how many requests go on at a time.
        seconds: of each request, always the same.
    """
    free = [0.0] * workers
    latencies = []
    for at in due:
        end = max(at, heapq.heappop(free)) + seconds
        heapq.heappush(free, end)
        latencies.append(end - at)
    return latencies
