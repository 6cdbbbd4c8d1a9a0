"""What of a latency is the queue's own: the same arrivals at workers of a known cost, and nothing else."""

import math
from collections import deque
from collections.abc import Iterable

_NOTHING = 1e-9  # seconds


def queue_latencies(due: Iterable[float], *, cores: int, at_a_time: int, seconds: float) -> list[float]:
    """Latencies of requests that come at ``due``, first come, first served.

    Args:
        due: seconds, rising.
        cores: as many requests go on at full speed; more share them equally, as threads do.
        at_a_time: as many are begun, the others wait; with as many as ``cores`` each has one to itself.
        seconds: of one core for each request, always the same.
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
