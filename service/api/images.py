"""The routes ``/predict``, ``/predict/batch``, ``/gradcam`` and ``/model``."""

from collections.abc import AsyncIterator
from typing import Annotated, TypeAlias
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic.json_schema import SkipJsonSchema

from service.admission.admission import Reservation
from service.admission.client import Client
from service.api.batch import Overlays, OverlaysResponse, batch_prediction, classify_all, failure_of_all
from service.api.examples import BATCH, MODEL_CARD, PREDICTION
from service.api.job import admit
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
    ModelCard,
    Prediction,
    RequestLimits,
    add_overlay,
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


def check_gradcam(gradcam: bool, gradcam_class: str | None) -> None:
    """Raise InvalidRequest if there is a class to explain, but no overlay is requested."""
    if gradcam_class is not None and not gradcam:
        raise InvalidRequest("gradcam_class: needs gradcam=true.", parameter="gradcam_class")


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

    async def overlay_memory() -> AsyncIterator[Reservation]:
        """Count the overlays of a batch among the bodies until the response is sent."""
        with runtime.admission.reserve() as memory:
            yield memory

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
        check_gradcam(gradcam, gradcam_class)
        async with admit(runtime, request, client, gradcam_class=gradcam_class) as job:
            classification = await job.classify(await job.receive_image(metadata))
            prediction = prediction_of(job.model.manifest, classification, job.record.request_id)
            if gradcam:
                code = gradcam_class or classification.decision.gradcam_class
                add_overlay(prediction, await job.explain(classification, code), code)
            return prediction

    @router.post(
        "/predict/batch",
        tags=["images"],
        summary="Classify several images",
        description="Returns one result for each image, in the order of the images. The member `kind` says "
        "whether the result is a prediction or a problem. An image that cannot be used does not affect the "
        "others. If the service fails on every image, the response is that failure: 500, 503 or 504. The "
        "byte limit applies to the whole body. With `gradcam=true`, each prediction has an overlay, or "
        "the warning `overlay_omitted` if the server has no memory for it.",
        operation_id="predictBatch",
        response_model=BatchPrediction,
        responses={**IMAGE_ERRORS, 200: json_response("A result for each image.", BATCH, MODEL_HEADER)},
        openapi_extra=BATCH_BODY,
    )
    async def predict_batch(
        request: Request,
        client: Authenticated,
        memory: Annotated[Reservation, Depends(overlay_memory)],
        gradcam: Annotated[bool, Query(description="Add an overlay to each prediction.")] = False,
        gradcam_class: PredictGradCamClass = None,
    ) -> BatchPrediction | Response:
        check_gradcam(gradcam, gradcam_class)
        async with admit(runtime, request, client, gradcam_class=gradcam_class) as job:
            images = await job.receive_images()
            names = [image.filename for image in images]
            overlays = Overlays(gradcam_class, memory) if gradcam else None
            outcomes = await classify_all(job, images, overlays)
            if (failure := failure_of_all(outcomes)) is not None:
                return failure.response(job.record)
            if gradcam:
                return OverlaysResponse(outcomes, names, memory)
            return batch_prediction(outcomes, names)

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
