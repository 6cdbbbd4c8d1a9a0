"""Clients that ask for one thing after another until they are told to stop."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from random import Random
from types import TracebackType
from typing import Self

from tests.long.good_requests import Asked, Asker, Sample
from tests.long.report import quantile

_PAUSE = 0.05
"""Seconds that a client waits where nobody answers, before it tries again."""


class Crowd:
    """So many clients, each with a kept connection and a thread; use as a context manager.

    Attributes:
        asked: everything that was asked and answered so far.
    """

    def __init__(self, url: str, samples: Sequence[Sample], *, clients: int, seed: int = 1) -> None:
        self.asked: list[Asked] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(url, samples, Random(f"{seed}:{number}")))
            for number in range(clients)
        ]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let each client finish what it has begun."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def failed(self) -> list[Asked]:
        """Those that got no answer or a wrong one."""
        return [asked for asked in self.asked if asked.wrong]

    def row(self) -> list[object]:
        """Figures for a table; their names are in ``HEAD``."""
        seconds = [asked.seconds for asked in self.asked]
        return [
            len(self.asked),
            len(self.failed),
            sum(asked.waits for asked in self.asked),
            f"{quantile(seconds, 0.5) * 1000:.0f}",
            f"{quantile(seconds, 0.99) * 1000:.0f}",
            f"{max(seconds, default=0) * 1000:.0f}",
        ]

    def reasons(self) -> list[str]:
        """Why requests failed, with how often."""
        return [
            f"{times} × {why}" for why, times in Counter(asked.wrong for asked in self.failed).most_common(10)
        ]

    def _client(self, url: str, samples: Sequence[Sample], rng: Random) -> None:
        asker = Asker(url, samples)
        while not self._stop.is_set():
            asked = asker.ask(rng)
            self.asked.append(asked)
            if asked.status == 0:
                time.sleep(_PAUSE)
        asker.close()


HEAD = ["requests", "failed", "told to come again", "p50, ms", "p99, ms", "longest, ms"]
