"""The routes ``/predict``, ``/predict/batch``, ``/gradcam`` and ``/model``."""

import base64
from collections.abc import Sequence
from typing import Annotated, TypeAlias
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic.json_schema import SkipJsonSchema

from service.admission.client import Client
from service.api.examples import BATCH, MODEL_CARD, PREDICTION
from service.api.job import Failed, admit
from service.api.metadata import QueryMetadata
from service.api.openapi import (
    BATCH_BODY,
    ETAG_HEADER,
    IF_NONE_MATCH,
    IMAGE_BODY,
    IMAGE_ERRORS,
    MODEL_HEADER,
    UNCHANGED,
    error_responses,
    json_response,
)
from service.api.schemas import (
    BatchPrediction,
    GradCam,
    ImageWarning,
    ModelCard,
    Prediction,
    PredictionResult,
    ProblemResult,
    RequestLimits,
    model_card_json,
    prediction_of,
)
from service.api.upload import MAX_IMAGES
from service.errors import InvalidRequest
from service.http.etag import tagged
from service.inference.classifier import Classifier
from service.inference.warnings import EMPTY_HEATMAP
from service.lifecycle import Runtime

_GRADCAM_CLASS = (
    "Code of the class to explain, one of those in `GET /model`. Default: the label, or the most probable "
    "malignant class if the flag is `malignant` and the label is benign."
)

GradCamClass = Annotated[
    str | SkipJsonSchema[None],
    # Without an example, which Swagger UI would fill in: not every model has the same classes.
    Query(description=_GRADCAM_CLASS, max_length=64),
]

PredictGradCamClass = Annotated[
    str | SkipJsonSchema[None],
    Query(description=f"{_GRADCAM_CLASS} Requires `gradcam=true`.", max_length=64),
]


def build_router(runtime: Runtime) -> APIRouter:
    """Build the routes for images and for the model."""
    router = APIRouter()
    # Cached: one card takes a millisecond to build on the event loop.
    cards: WeakKeyDictionary[Classifier, bytes] = WeakKeyDictionary()
    limits = RequestLimits(
        max_body_bytes=runtime.settings.max_body_bytes,
        max_pixels=runtime.settings.max_pixels,
        max_images=MAX_IMAGES,
        timeout_seconds=runtime.settings.request_timeout,
    )
    Authenticated: TypeAlias = Annotated[Client, Depends(runtime.authenticator.client)]

    @router.post(
        "/predict",
        tags=["images"],
        summary="Classify one image",
        description="Returns the probabilities of all classes, the class picked by the model's decision "
        "rule, the flag at the operating point, and warnings. With `gradcam=true`, it adds an overlay.",
        operation_id="predict",
        responses={**IMAGE_ERRORS, 200: json_response("The prediction.", PREDICTION, MODEL_HEADER)},
        openapi_extra=IMAGE_BODY,
    )
    async def predict(
        request: Request,
        client: Authenticated,
        metadata: QueryMetadata,
        gradcam: Annotated[bool, Query(description="Add an overlay to the response.")] = False,
        gradcam_class: PredictGradCamClass = None,
    ) -> Prediction:
        if gradcam_class is not None and not gradcam:
            raise InvalidRequest("gradcam_class: needs gradcam=true.", parameter="gradcam_class")
        async with admit(runtime, request, client, gradcam_class=gradcam_class) as job:
            classification = await job.classify(await job.receive_image(metadata))
            prediction = prediction_of(job.model.manifest, classification, job.record.request_id)
            if gradcam:
                code = gradcam_class or classification.decision.gradcam_class
                overlay = await job.explain(classification, code)
                prediction.gradcam = GradCam(label=code, data=base64.b64encode(overlay.png).decode())
                if overlay.empty:
                    prediction.warnings.append(ImageWarning(**EMPTY_HEATMAP._asdict()))
            return prediction

    @router.post(
        "/predict/batch",
        tags=["images"],
        summary="Classify several images",
        description="Returns one result for each image, in the order of the images. The member `kind` says "
        "whether the result is a prediction or a problem. An image that cannot be used does not affect the "
        "others. If the service fails on every image, the response is that failure: 500, 503 or 504. The "
        "byte limit applies to the whole body.",
        operation_id="predictBatch",
        response_model=BatchPrediction,
        responses={**IMAGE_ERRORS, 200: json_response("A result for each image.", BATCH, MODEL_HEADER)},
        openapi_extra=BATCH_BODY,
    )
    async def predict_batch(request: Request, client: Authenticated) -> BatchPrediction | Response:
        async with admit(runtime, request, client) as job:
            images = await job.receive_images()
            names = [image.filename for image in images]
            manifest, request_id = job.model.manifest, job.record.request_id
            outcomes = await job.classify_each(
                images, lambda found: prediction_of(manifest, found, request_id)
            )
            if (failure := _failure_of_all(outcomes)) is not None:
                return failure.response(job.record)
            rows = enumerate(zip(outcomes, names, strict=True))
            return BatchPrediction(results=[_result(outcome, index, name) for index, (outcome, name) in rows])

    @router.post(
        "/gradcam",
        tags=["images"],
        summary="Overlay of one image",
        description="Returns the image as the model read it, with the evidence for a class marked in colour.",
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
    async def gradcam(
        request: Request, client: Authenticated, metadata: QueryMetadata, gradcam_class: GradCamClass = None
    ) -> Response:
        async with admit(runtime, request, client, gradcam_class=gradcam_class) as job:
            classification = await job.classify(await job.receive_image(metadata))
            code = gradcam_class or classification.decision.gradcam_class
            overlay = await job.explain(classification, code)
            headers = {"X-Gradcam-Label": code} | ({"X-Gradcam-Empty": "true"} if overlay.empty else {})
            return Response(overlay.png, media_type="image/png", headers=headers)

    @router.get(
        "/model",
        tags=["model"],
        summary="The model being served",
        description="Returns facts from the model's manifest: classes, operating point, metrics measured "
        "on the test part, limits and licence. Also returns the formats and the sizes of requests that this "
        "server accepts. They change only with a reload or a restart. Clients can "
        "cache the response and revalidate it with its `ETag`.",
        operation_id="model",
        response_model=ModelCard,
        responses={
            **error_responses(503),
            200: json_response("The model.", MODEL_CARD, MODEL_HEADER | ETAG_HEADER) | {"links": UNCHANGED},
            304: {
                "description": "The model is the one whose `ETag` is in `If-None-Match`.",
                "headers": MODEL_HEADER | ETAG_HEADER,
            },
        },
        openapi_extra=IF_NONE_MATCH,
    )
    async def model(request: Request) -> Response:
        classifier = runtime.classifier
        request.state.record.model = classifier.identity.label
        if classifier not in cards:
            cards[classifier] = model_card_json(classifier.manifest, classifier.provider, limits)
        return tagged(request, cards[classifier], "application/json")

    return router


def _failure_of_all(outcomes: Sequence[Prediction | Failed]) -> Failed | None:
    """If the service failed on every image, return the failure with the longest ``retry_after``."""
    failures = [o for o in outcomes if isinstance(o, Failed) and o.problem.status >= 500]
    return (
        max(failures, key=lambda failed: failed.retry_after or 0) if len(failures) == len(outcomes) else None
    )


def _result(
    outcome: Prediction | Failed, index: int, filename: str | None
) -> PredictionResult | ProblemResult:
    """The result of one image of a batch."""
    if isinstance(outcome, Prediction):
        return PredictionResult(**dict(outcome), kind="prediction", index=index, filename=filename)
    return ProblemResult(**dict(outcome.problem), kind="problem", index=index, filename=filename)
