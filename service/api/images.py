"""The routes for images and for the model."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Annotated, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic.json_schema import SkipJsonSchema

from models.errors import DermaserveError
from service.admission.client import Client
from service.api.examples import BATCH, MODEL_CARD, PREDICTION
from service.api.job import admit
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
from service.api.upload import Upload
from service.errors import InvalidRequest, Unavailable, kind_of
from service.http.etag import tagged
from service.http.problems import Problem, answer_of, problem_of
from service.inference.classifier import Classifier
from service.inference.warnings import EMPTY_HEATMAP
from service.lifecycle import Runtime

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
    # To write one takes a millisecond of the event loop, and everyone may ask without a pause.
    cards: WeakKeyDictionary[Classifier, bytes] = WeakKeyDictionary()
    From: TypeAlias = Annotated[Client, Depends(runtime.authenticator.client)]

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
        client: From,
        gradcam: Annotated[bool, Query(description="Add an overlay to the answer.")] = False,
        gradcam_class: PredictGradCamClass = None,
    ) -> Prediction:
        if gradcam_class is not None and not gradcam:
            raise InvalidRequest("gradcam_class: needs gradcam=true.", parameter="gradcam_class")
        async with admit(runtime, request, client, gradcam_class=gradcam_class) as job:
            found = await job.classify(await job.receive_image())
            prediction = prediction_of(job.model.manifest, found, request.state.request_id)
            if gradcam:
                code = gradcam_class or found.decision.explained
                overlay = await job.explain(found, code)
                prediction.gradcam = GradCam(label=code, data=base64.b64encode(overlay.png).decode())
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
    async def predict_batch(request: Request, client: From) -> BatchPrediction | Response:
        async with admit(runtime, request, client) as job:
            images = await job.receive_images()
            names = [image.filename for image in images]
            # Batches must not fill the queue: each, and all together, have as many images in work as fit into
            # inference. The batches take turns, and a single image waits behind few of theirs.
            turns = asyncio.Semaphore(job.model.images_at_once)

            async def one(index: int, image: Upload) -> Prediction | _Failed:
                async with turns, job.model.batch_turns:
                    try:
                        if not image.data:
                            raise InvalidRequest(
                                "The part is empty; expected an image.", pointer=f"#/files/{index}"
                            )
                        found = await job.classify(image)
                    except DermaserveError as error:
                        image.data = b""
                        job.record.image_problems.append(kind_of(error).type)
                        # Not the error: its stack trace would hold the image until the last one is done.
                        wait = error.retry_after if isinstance(error, Unavailable) else None
                        return _Failed(problem_of(error, job.record.request_id), wait)
                    return prediction_of(job.model.manifest, found, job.record.request_id)

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(index, image)) for index, image in enumerate(images)]
            outcomes = [task.result() for task in tasks]
            if (failure := _failure_of_all(outcomes)) is not None:
                wait = failure.retry_after
                headers = {} if wait is None else {"Retry-After": str(wait)}
                return answer_of(failure.problem, job.record, headers)
            rows = enumerate(zip(outcomes, names, strict=True))
            return BatchPrediction(results=[_result(outcome, index, name) for index, (outcome, name) in rows])

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
    async def gradcam(request: Request, client: From, gradcam_class: GradCamClass = None) -> Response:
        async with admit(runtime, request, client, gradcam_class=gradcam_class) as job:
            found = await job.classify(await job.receive_image())
            code = gradcam_class or found.decision.explained
            overlay = await job.explain(found, code)
            headers = {"X-Gradcam-Label": code} | ({"X-Gradcam-Empty": "true"} if overlay.empty else {})
            return Response(overlay.png, media_type="image/png", headers=headers)

    @router.get(
        "/model",
        tags=["model"],
        summary="The model being served",
        description="From its manifest: classes, operating point, figures measured on the test part, "
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
        request.state.record.model = classifier.identity.label
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
