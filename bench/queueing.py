"""What of a latency is the queue's own: the same arrivals at workers of a known cost, and nothing else."""

import heapq
import math
from collections import deque
from collections.abc import Iterable

_NOTHING = 1e-9  # seconds


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


def shared_latencies(due: Iterable[float], *, cores: int, at_a_time: int, seconds: float) -> list[float]:
    """Latencies of requests that share the cores, as threads do, instead of each keeping its core.

    Args:
        due: seconds, rising.
        cores: as many requests go on at full speed; more share them equally.
        at_a_time: as many are begun, first come, first served; the others wait.
        seconds: of one core for each request.
    """
    coming, waiting = deque(due), deque[float]()
    going: list[tuple[float, float]] = []  # what is left of each, and when it was due
    latencies = []
    now = 0.0
    while coming or waiting or going:
        while waiting and len(going) < at_a_time:
            going.append((seconds, waiting.popleft()))
        speed = min(1.0, cores / len(going)) if going else 0.0
        done = now + min(left for left, _ in going) / speed if going else math.inf
        at = min(done, coming[0] if coming else math.inf)
        going = [(left - (at - now) * speed, since) for left, since in going]
        now = at
        latencies += [now - since for left, since in going if left < _NOTHING]
        going = [(left, since) for left, since in going if left >= _NOTHING]
        while coming and coming[0] <= now:
            waiting.append(coming.popleft())
    return latencies
