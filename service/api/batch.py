"""The images of a batch: each gets its own result, and all overlays together stay within a limit."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from pydantic import TypeAdapter
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.admission.admission import Reservation
from service.api.job import Failed, Job
from service.api.schemas import (
    BatchPrediction,
    Prediction,
    PredictionResult,
    ProblemResult,
    add_overlay,
    prediction_of,
)
from service.api.upload import Upload
from service.inference.classifier import Classification

_CHUNK = 65_536  # bytes
_JSON = TypeAdapter(BatchPrediction)  # its result is bytes; a model's own is text, and one more copy

logger = logging.getLogger(__name__)


class Overlays(NamedTuple):
    """The overlays that a request for a batch wants.

    Attributes:
        code: of the class to explain; None for the default of each image.
        memory: grows with the overlays.
    """

    code: str | None
    memory: Reservation


async def classify_all(
    job: Job, images: Sequence[Upload], overlays: Overlays | None
) -> list[Prediction | Failed]:
    """Classify the images of a batch, and draw their overlays if ``overlays`` is given.

    An image whose overlay fails gets a problem.
    """

    async def result(classification: Classification) -> Prediction:
        prediction = prediction_of(job.model.manifest, classification, job.record.request_id)
        if overlays is not None:
            code = overlays.code or classification.decision.gradcam_class
            add_overlay(prediction, await job.explain(classification, code, overlays.memory), code)
        return prediction

    return await job.classify_each(images, result)


def failure_of_all(outcomes: Sequence[Prediction | Failed]) -> Failed | None:
    """If the service failed on every image, return the failure with the longest ``retry_after``."""
    failures = [o for o in outcomes if isinstance(o, Failed) and o.problem.status >= 500]
    return (
        max(failures, key=lambda failed: failed.retry_after or 0) if len(failures) == len(outcomes) else None
    )


def batch_prediction(outcomes: Sequence[Prediction | Failed], names: Sequence[str | None]) -> BatchPrediction:
    """Build the response from the outcome and the file name of each image."""
    rows = enumerate(zip(outcomes, names, strict=True))
    return BatchPrediction(results=[_result(outcome, index, name) for index, (outcome, name) in rows])


def _result(
    outcome: Prediction | Failed, index: int, filename: str | None
) -> PredictionResult | ProblemResult:
    """The result of one image of a batch."""
    if isinstance(outcome, Prediction):
        return PredictionResult(**dict(outcome), kind="prediction", index=index, filename=filename)
    return ProblemResult(**dict(outcome.problem), kind="problem", index=index, filename=filename)


class LargeResponse(Response):
    """A JSON response that is written as the client reads it.

    ``memory`` counts it until it is written. When bodies of other requests need that memory, the slowest
    client is cut off, whether it sends or reads.
    """

    def __init__(self, answer: BatchPrediction, memory: Reservation) -> None:
        super().__init__(_JSON.dump_json(answer), media_type="application/json")
        self._memory = memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, or its beginning if the client is too slow."""
        head = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        try:
            async with asyncio.timeout(None) as timer:
                with self._memory.transfer(partial(timer.reschedule, 0)):
                    await send(head)
                    for at in range(0, len(self.body), _CHUNK):
                        chunk = bytes(self.body[at : at + _CHUNK])
                        # Waits until the client has read what was sent before.
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                        self._memory.moved = at
                    await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            if not timer.expired():
                raise
            logger.warning("A client that read its response slowly was cut off: the memory was needed.")
