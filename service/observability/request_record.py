"""The record of one request, for its log line, its trace and the metrics."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

UNMATCHED = "unmatched"
"""Route label of requests that match no route. Their paths are not used: clients could send any number."""


@dataclass(slots=True)
class Stage:
    """The time of one stage: ``receive``, ``decode``, ``queue``, ``inference`` or ``overlay``.

    Attributes:
        start, end: on the clock of ``time.monotonic``.
    """

    name: str
    start: float
    end: float = 0.0


class LoggedPrediction(NamedTuple):
    """The prediction for one image, for the log. It is logged only with the setting ``audit``."""

    label: str
    flag: str
    malignancy: float
    warnings: tuple[str, ...]


@dataclass(slots=True)
class RequestRecord:
    """Facts about one request. ``service.http.middleware.RequestMiddleware`` creates and reports it.

    It holds no image data, file names, paths or addresses.

    Attributes:
        request_id: sent by the client or made by the server.
        method: as sent, if it is a known method.
        began, started: the start of the request, in nanoseconds of Unix time and on the clock of
            ``time.monotonic``.
        duration: seconds until the response was complete.
        route: template of the route, or ``UNMATCHED``.
        status: of the response; 0 if there was none.
        bytes_received, bytes_sent: sizes of the bodies.
        images: number of images in the body.
        model: ``name/version`` of the model that served the request.
        key: name of the API key.
        problem: type of the problem in the response, without the prefix of the URN.
        image_problems: the same for the images of a batch that failed.
        stages: in the order in which they ended.
        predictions: one for each image that was classified.
        trace_id: hexadecimal, if traces are on.
        open_inference: whether errors have the format of the Open Inference Protocol.
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
    predictions: list[LoggedPrediction] = field(default_factory=list)
    trace_id: str | None = None
    open_inference: bool = False

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Record the block as a stage, even if it fails. The block may set ``end`` itself."""
        stage = Stage(name, time.monotonic())
        try:
            yield stage
        finally:
            stage.end = stage.end or time.monotonic()
            self.stages.append(stage)

    def seconds(self) -> dict[str, float]:
        """Seconds by stage. The times of the images of a batch are added up, although they overlap."""
        total: dict[str, float] = {}
        for stage in self.stages:
            total[stage.name] = total.get(stage.name, 0.0) + stage.end - stage.start
        return total
