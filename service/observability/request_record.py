"""What one request leaves behind for its log line, its trace and the metrics."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

UNMATCHED = "unmatched"
"""The route label of requests to no route: their paths are the client's, and without bound."""


@dataclass(slots=True)
class Stage:
    """One part of the work: ``receive``, ``decode``, ``queue``, ``inference`` or ``overlay``.

    Attributes:
        start, end: on the clock of ``time.monotonic``.
    """

    name: str
    start: float
    end: float = 0.0


class LoggedPrediction(NamedTuple):
    """What was said of one image. Leaves the process only where an audit was asked for."""

    label: str
    flag: str
    malignancy: float
    warnings: tuple[str, ...]


@dataclass(slots=True)
class RequestRecord:
    """Made, completed and reported by ``service.http.middleware.RequestMiddleware``.

    It never holds anything of an image or of the client but counts: no bytes, names, paths, addresses.

    Attributes:
        method: as sent, if it is a known one.
        began, started: the same moment, in nanoseconds of Unix time and on ``time.monotonic``.
        route: template of the route, or ``UNMATCHED``.
        status: of the answer; 0 if there was none.
        bytes_received, bytes_sent: of the bodies.
        model: ``name/version`` of the model that the request was let in to.
        key: name of the API key.
        problem: type of the problem that the answer is, without the URN's prefix.
        image_problems: the same for single images of a batch.
        trace_id: hexadecimal, if traces are on.
    """

    request_id: str
    method: str
    began: int = field(default_factory=time.time_ns)
    started: float = field(default_factory=time.monotonic)
    duration: float = 0.0
    route: str = UNMATCHED
    status: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    images: int = 0
    model: str | None = None
    key: str | None = None
    problem: str | None = None
    image_problems: list[str] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    verdicts: list[LoggedPrediction] = field(default_factory=list)
    trace_id: str | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time a block, failing or not; a block that knows better sets ``end`` itself."""
        stage = Stage(name, time.monotonic())
        try:
            yield stage
        finally:
            stage.end = stage.end or time.monotonic()
            self.stages.append(stage)

    def seconds(self) -> dict[str, float]:
        """Seconds by stage; the images of a batch are worked on side by side, and summed here."""
        total: dict[str, float] = {}
        for stage in self.stages:
            total[stage.name] = total.get(stage.name, 0.0) + stage.end - stage.start
        return total
