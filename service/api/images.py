"""The API: each route reads a request, lets the classifier work, and shapes the answer."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Annotated, NamedTuple
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Query, Request, Response
from pydantic.json_schema import SkipJsonSchema

from models.errors import DermaserveError
from service.api.examples import BATCH, MODEL_CARD, PREDICTION
from service.api.openapi import (
    BATCH_BODY,
    ETAG_HEADER,
    IF_NONE_MATCH,
    IMAGE_BODY,
    IMAGE_ERRORS,
    MODEL_HEADER,
    UNCHANGED,
    answer,
    errors,
)
from service.api.schemas import (
    BatchPrediction,
    GradCam,
    ImageWarning,
    ModelCard,
    Prediction,
    PredictionResult,
    ProblemResult,
    card_of,
    prediction_of,
)
from service.api.upload import Part, UploadLimits, read_image, read_images
from service.errors import DeadlinePassed, InvalidRequest, NoMemory, Unavailable, kind_of
from service.http.etag import tagged
from service.http.problems import Problem, answer_of, problem_of
from service.inference.classifier import Classified, Classifier, Prepared
from service.inference.overlay import Overlay
from service.inference.warnings import EMPTY_HEATMAP
from service.lifecycle import Runtime
from service.observability.request_record import Record, Stage, Verdict
from service.system.threads import cancelled_by_disconnect

_EXPLAINED = (
    "Code of the class to explain, of those in `GET /model`. Default: the label, or, where the flag is "
    "raised and the label is benign, the most probable malignant class."
)

GradCamClass = Annotated[
    str | SkipJsonSchema[None],
    # No example: it would stand in Swagger UI's form, and not every model has that class.
    Query(description=_EXPLAINED, max_length=64),
]

PredictGradCamClass = Annotated[
    str | SkipJsonSchema[None],
    Query(description=f"{_EXPLAINED} Only with `gradcam=true`.", max_length=64),
]


def build_router(runtime: Runtime) -> APIRouter:
    """The routes of the API contract, working on ``runtime``."""
    router = APIRouter()
    settings = runtime.settings
    limits = UploadLimits(settings.max_body_bytes, settings.min_upload_rate, settings.upload_grace)
    # To write one takes a millisecond of the event loop, and everyone may ask without a pause.
    cards: WeakKeyDictionary[Classifier, bytes] = WeakKeyDictionary()

    @asynccontextmanager
    async def accepted(request: Request, gradcam_class: str | None = None) -> AsyncIterator[Classifier]:
        """Admit a request and end it at its deadline, whatever it is waiting for."""
        left = _deadline(request) - time.monotonic()
        try:
            async with asyncio.timeout(left) as timer:
                runtime.gate.check()  # first: a request that gets 503 costs its client nothing
                with runtime.access.admit(request.state.client), runtime.use() as classifier:
                    codes = classifier.manifest.codes
                    if gradcam_class is not None and gradcam_class not in codes:
                        raise InvalidRequest(
                            f"gradcam_class: expected one of {', '.join(codes)}.", parameter="gradcam_class"
                        )
                    _record(request).model = classifier.identity.label
                    yield classifier
        except TimeoutError as error:
            if not timer.expired():
                raise  # not of this clock: the system's ETIMEDOUT
            raise DeadlinePassed("The deadline passed before the answer was computed.") from error
        except MemoryError as error:  # while receiving; the classifier answers for its own
            runtime.metrics.refused("memory")
            raise NoMemory from error

    def _deadline(request: Request) -> float:
        return float(request.state.started) + runtime.settings.request_timeout

    @contextmanager
    def counted() -> Iterator[None]:
        """Count an image that gets a problem in place of an answer."""
        try:
            yield
        except DermaserveError as error:
            runtime.metrics.image_failed(kind_of(error))
            raise

    async def decoded(request: Request, classifier: Classifier, data: bytes) -> Prepared:
        """Decode one image."""
        with _record(request).stage("decode"), counted():
            return await classifier.prepare(data, rank=request.state.rank, deadline=_deadline(request))

    @asynccontextmanager
    async def prepared(request: Request, classifier: Classifier) -> AsyncIterator[Prepared]:
        """Receive and decode one image; from then on the block ends when the client goes away."""
        record = _record(request)
        with ExitStack() as memory:
            reservation = memory.enter_context(runtime.gate.reserve())
            with record.stage("receive"), runtime.metrics.receiving.time():
                data = await read_image(request, limits, reservation)
            record.images = 1
            with runtime.gate.admit():
                async with cancelled_by_disconnect(request.receive):
                    image = await decoded(request, classifier, data)
                    del data  # the file's bytes are needed no more, long before the answer
                    memory.close()
                    yield image

    async def classified(request: Request, classifier: Classifier, image: Prepared) -> Classified:
        """Queue and classify, and keep for the log what was said, and when."""
        record = _record(request)
        with record.stage("queue") as queue, counted():
            found = await classifier.classify(image, rank=request.state.rank, deadline=_deadline(request))
            queue.end = found.started
        record.stages.append(Stage("inference", found.started, found.ended))
        decision, codes = found.decision, tuple(caution.code for caution in found.cautions)
        record.verdicts.append(Verdict(decision.label, decision.flag, decision.malignancy, codes))
        return found

    async def explained(
        request: Request, classifier: Classifier, found: Classified, asked: str | None
    ) -> tuple[str, Overlay]:
        """The class to explain and its overlay: the one asked for, or else the decision's."""
        code = asked or found.decision.explained
        with _record(request).stage("overlay"), counted():
            return code, await classifier.overlay(found, code)

    @router.post(
        "/predict",
        tags=["images"],
        summary="Classify one image",
        description="Probabilities of all classes, the class picked by the model's decision rule, the flag "
        "at its operating point, and warnings; with `gradcam` an overlay as well.",
        operation_id="predict",
        responses={**IMAGE_ERRORS, 200: answer("The prediction.", PREDICTION, MODEL_HEADER)},
        openapi_extra=IMAGE_BODY,
    )
    async def predict(
        request: Request,
        gradcam: Annotated[bool, Query(description="Add an overlay to the answer.")] = False,
        gradcam_class: PredictGradCamClass = None,
    ) -> Prediction:
        if gradcam_class is not None and not gradcam:
            raise InvalidRequest("gradcam_class: needs gradcam=true.", parameter="gradcam_class")
        async with (
            accepted(request, gradcam_class) as classifier,
            prepared(request, classifier) as image,
        ):
            found = await classified(request, classifier, image)
            prediction = prediction_of(classifier.manifest, found, request.state.request_id)
            if gradcam:
                code, overlay = await explained(request, classifier, found, gradcam_class)
                data = base64.b64encode(overlay.png).decode()
                prediction.gradcam = GradCam(label=code, data=data)
                if overlay.empty:
                    prediction.warnings.append(ImageWarning(**EMPTY_HEATMAP._asdict()))
            return prediction

    @router.post(
        "/predict/batch",
        tags=["images"],
        summary="Classify several images",
        description="Results come in the order of the images, each a prediction or a problem, as `kind` "
        "says: one bad image never fails its neighbours. Where the service fails every image, the answer is "
        "that failure, 500, 503 or 504. The limit on bytes holds for the whole body.",
        operation_id="predictBatch",
        response_model=BatchPrediction,
        responses={**IMAGE_ERRORS, 200: answer("A result for each image.", BATCH, MODEL_HEADER)},
        openapi_extra=BATCH_BODY,
    )
    async def predict_batch(request: Request) -> BatchPrediction | Response:
        record = _record(request)
        async with accepted(request) as classifier:
            # Batches must not fill the queue: each, and all together, have as many images in work as fit into
            # inference. The batches take turns, and a single image waits behind few of theirs.
            turns = asyncio.Semaphore(classifier.images_at_once)

            async def one(parts: list[Part], index: int) -> Prediction | _Failed:
                async with turns, classifier.batch_turns.place(request.state.rank):
                    data = parts[index].data
                    parts[index] = parts[index]._replace(data=b"")
                    try:
                        if not data:
                            raise InvalidRequest(
                                "The part is empty; expected an image.", pointer=f"#/files/{index}"
                            )
                        image = await decoded(request, classifier, data)
                        del data
                        found = await classified(request, classifier, image)
                    except DermaserveError as error:
                        record.image_problems.append(kind_of(error).type)
                        # Not the error: its stack trace would hold the image until the last one is done.
                        wait = error.retry_after if isinstance(error, Unavailable) else None
                        return _Failed(problem_of(error, record.request_id), wait)
                    return prediction_of(classifier.manifest, found, record.request_id)

            with runtime.gate.reserve() as reservation:
                with record.stage("receive"), runtime.metrics.receiving.time():
                    parts = await read_images(request, limits, reservation)
                record.images = len(parts)
                runtime.access.recharge(request.state.client, len(parts))
                with runtime.gate.admit():
                    async with cancelled_by_disconnect(request.receive), asyncio.TaskGroup() as group:
                        tasks = [group.create_task(one(parts, index)) for index in range(len(parts))]
            outcomes = [task.result() for task in tasks]
            if (failure := _failure_of_all(outcomes)) is not None:
                wait = failure.retry_after
                headers = {} if wait is None else {"Retry-After": str(wait)}
                return answer_of(failure.problem, record, headers)
            pairs = enumerate(zip(outcomes, parts, strict=True))
            return BatchPrediction(
                results=[_result(outcome, index, part.filename) for index, (outcome, part) in pairs]
            )

    @router.post(
        "/gradcam",
        tags=["images"],
        summary="Overlay of one image",
        description="The picture that the model saw, with what spoke for a class laid over it.",
        operation_id="gradcam",
        response_class=Response,
        responses={
            **IMAGE_ERRORS,
            200: {
                "description": "The overlay.",
                "content": {
                    "image/png": {
                        "schema": {"type": "string", "format": "binary"},
                        "example": "the bytes of a PNG",
                    }
                },
                "headers": MODEL_HEADER
                | {
                    "X-Gradcam-Label": {"description": "The class shown.", "schema": {"type": "string"}},
                    "X-Gradcam-Empty": {
                        "description": f"`true` or absent. {EMPTY_HEATMAP.detail}",
                        "schema": {"type": "string", "enum": ["true"]},
                    },
                },
            },
        },
        openapi_extra=IMAGE_BODY,
    )
    async def gradcam(request: Request, gradcam_class: GradCamClass = None) -> Response:
        async with (
            accepted(request, gradcam_class) as classifier,
            prepared(request, classifier) as image,
        ):
            found = await classified(request, classifier, image)
            code, overlay = await explained(request, classifier, found, gradcam_class)
            headers = {"X-Gradcam-Label": code} | ({"X-Gradcam-Empty": "true"} if overlay.empty else {})
            return Response(overlay.png, media_type="image/png", headers=headers)

    @router.get(
        "/model",
        tags=["model"],
        summary="The model being served",
        description="From its manifest: classes, operating point, figures measured once on the test part, "
        "limits, licence. It changes with a reload or a restart only: keep it, and ask with its `ETag`.",
        operation_id="model",
        response_model=ModelCard,
        responses={
            **errors(503),
            200: answer("The model.", MODEL_CARD, MODEL_HEADER | ETAG_HEADER) | {"links": UNCHANGED},
            304: {
                "description": "As it was when its `ETag` was sent, now back in `If-None-Match`.",
                "headers": MODEL_HEADER | ETAG_HEADER,
            },
        },
        openapi_extra=IF_NONE_MATCH,
    )
    async def model(request: Request) -> Response:
        classifier = runtime.classifier
        _record(request).model = classifier.identity.label
        if classifier not in cards:
            cards[classifier] = card_of(classifier.manifest, classifier.provider)
        return tagged(request, cards[classifier], "application/json")

    return router


class _Failed(NamedTuple):
    """One image of a batch that got no answer; ``retry_after`` in seconds, if a wait may help."""

    problem: Problem
    retry_after: int | None


def _failure_of_all(outcomes: Sequence[Prediction | _Failed]) -> _Failed | None:
    """If the service has failed every image, the failure with the longest wait, or else the first."""
    ours = [o for o in outcomes if isinstance(o, _Failed) and o.problem.status >= 500]
    return max(ours, key=lambda failed: failed.retry_after or 0) if len(ours) == len(outcomes) else None


def _result(
    outcome: Prediction | _Failed, index: int, filename: str | None
) -> PredictionResult | ProblemResult:
    """One image's row of a batch."""
    if isinstance(outcome, Prediction):
        return PredictionResult(**dict(outcome), kind="prediction", index=index, filename=filename)
    return ProblemResult(**dict(outcome.problem), kind="problem", index=index, filename=filename)


def _record(request: Request) -> Record:
    record: Record = request.state.record
    return record
