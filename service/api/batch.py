"""The images of a batch: each gets its own result, and all overlays together stay within a limit."""

import base64
import logging
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import TypeAdapter
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.admission.admission import Reservation
from service.api.job import Failed, Job
from service.api.schemas import (
    BatchPrediction,
    ImageWarning,
    Prediction,
    PredictionResult,
    ProblemResult,
    add_overlay,
    prediction_of,
)
from service.api.upload import Upload
from service.inference.classifier import Classification
from service.inference.overlay import Overlay
from service.inference.warnings import OVERLAY_OMITTED

_BEGIN, _NEXT, _END = b'{"results":[', b",", b"]}"
_JSON: TypeAdapter[PredictionResult | ProblemResult] = TypeAdapter(PredictionResult | ProblemResult)

logger = logging.getLogger(__name__)


class Overlays(NamedTuple):
    """The overlays that a request for a batch wants.

    Attributes:
        code: of the class to explain; None for the default of each image.
        memory: holds the overlays until they are sent.
    """

    code: str | None
    memory: Reservation


class Classified(NamedTuple):
    """The prediction of one image, and its overlay for the class ``code`` if there is one."""

    prediction: Prediction
    overlay: Overlay | None = None
    code: str = ""


async def classify_all(
    job: Job, images: Sequence[Upload], overlays: Overlays | None
) -> list[Classified | Failed]:
    """Classify the images of a batch, and draw their overlays if ``overlays`` is given.

    An image whose overlay finds no memory gets its prediction with a warning.
    """

    async def result(classification: Classification) -> Classified:
        prediction = prediction_of(job.model.manifest, classification, job.record.request_id)
        if overlays is None:
            return Classified(prediction)
        code = overlays.code or classification.decision.gradcam_class
        overlay = await job.explain_within(overlays.memory, classification, code)
        if overlay is None:
            prediction.warnings.append(ImageWarning(**OVERLAY_OMITTED._asdict()))
        return Classified(prediction, overlay, code)

    return await job.classify_each(images, result)


def failure_of_all(outcomes: Sequence[Classified | Failed]) -> Failed | None:
    """If the service failed on every image, return the failure with the longest ``retry_after``."""
    failures = [o for o in outcomes if isinstance(o, Failed) and o.problem.status >= 500]
    return (
        max(failures, key=lambda failed: failed.retry_after or 0) if len(failures) == len(outcomes) else None
    )


def batch_prediction(outcomes: Sequence[Classified | Failed], names: Sequence[str | None]) -> BatchPrediction:
    """Build the response from the outcome and the file name of each image."""
    rows = enumerate(zip(outcomes, names, strict=True))
    return BatchPrediction(results=[_result(outcome, index, name) for index, (outcome, name) in rows])


def _result(
    outcome: Classified | Failed, index: int, filename: str | None
) -> PredictionResult | ProblemResult:
    """The result of one image of a batch, with an overlay without data if the outcome has one."""
    if isinstance(outcome, Failed):
        return ProblemResult(**dict(outcome.problem), kind="problem", index=index, filename=filename)
    prediction = outcome.prediction
    if outcome.overlay is not None:
        add_overlay(prediction, outcome.overlay._replace(png=b""), outcome.code)
    return PredictionResult(**dict(prediction), kind="prediction", index=index, filename=filename)


class OverlaysResponse(Response):
    """The results of a batch with overlays, as JSON. Each is written when the client has read the last.

    So few overlays at a time are in memory as text. ``memory`` counts each until the client has read it.
    When other overlays or bodies of requests need that memory, a client that reads slowly is cut off.
    """

    def __init__(
        self, outcomes: Sequence[Classified | Failed], names: Sequence[str | None], memory: Reservation
    ) -> None:
        rows = enumerate(zip(outcomes, names, strict=True))
        self._results = [_result(outcome, index, name) for index, (outcome, name) in rows]
        self._pngs = [
            outcome.overlay.png if isinstance(outcome, Classified) and outcome.overlay else b""
            for outcome in outcomes
        ]
        self._memory = memory
        size = len(_BEGIN) + len(_END) + len(_NEXT) * (len(self._results) - 1)
        size += sum(len(_JSON.dump_json(result)) for result in self._results)
        size += sum(-(-len(png) // 3) * 4 for png in self._pngs)  # in base64
        super().__init__(media_type="application/json", headers={"content-length": str(size)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, or its beginning if the client is too slow."""

        def cut_off() -> None:
            logger.warning("A client that read its response slowly was cut off: the memory was needed.")
            self._results.clear()
            scope["state"]["abort"]()

        before, size = _BEGIN, 0
        with self._memory.transfer(cut_off):
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            while self._results:
                sent = size
                body, size = self._take()
                # Waits until the client has read what was sent before.
                await send({"type": "http.response.body", "body": before + body, "more_body": True})
                before = _NEXT
                self._memory.advance(len(body))
                self._memory.release(sent)
            await send({"type": "http.response.body", "body": _END})

    def _take(self) -> tuple[bytes, int]:
        """Remove the next result, and return its JSON and the bytes that its overlay took."""
        result, png = self._results.pop(0), self._pngs.pop(0)
        if isinstance(result, PredictionResult) and result.gradcam is not None:
            result.gradcam.data = base64.b64encode(png).decode()
        return _JSON.dump_json(result), len(png)
