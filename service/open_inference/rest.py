"""The routes of the protocol under ``/v2``."""

from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, Request, Response
from pydantic_core import to_json

from service.admission.client import Client
from service.api.job import Failed, admit
from service.api.openapi import API_VERSION
from service.inference.classifier import Classifier
from service.lifecycle import Runtime
from service.open_inference.documents import (
    INFER_BODY,
    INFER_ERRORS,
    INFER_LENGTH,
    INFER_RESPONSE,
    LIVE,
    MODEL,
    MODEL_PARAMETERS,
    MODEL_READY,
    READY,
    SERVER,
    inference_errors,
)
from service.open_inference.inference import Inference
from service.open_inference.metadata import (
    EXTENSIONS,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    check_model,
    model_metadata,
)
from service.open_inference.outputs import Result
from service.open_inference.request import HEADER, InferRequest, parse_request


def build_open_inference_health(runtime: Runtime) -> APIRouter:
    """Build the routes for liveness and readiness. They require no key, as ``/livez`` and ``/readyz``."""
    router = APIRouter(prefix="/v2/health", tags=["open inference"])

    @router.get(
        "/live",
        summary="Liveness",
        description="As `GET /livez`, for clients of the Open Inference Protocol.",
        operation_id="serverLive",
        responses={**inference_errors(503), 200: LIVE},
    )
    async def live() -> ServerLive:
        runtime.check_alive()
        return ServerLive()

    @router.get(
        "/ready",
        summary="Readiness",
        description="As `GET /readyz`, for clients of the Open Inference Protocol.",
        operation_id="serverReady",
        responses={**inference_errors(503), 200: READY},
    )
    async def ready() -> ServerReady:
        runtime.check_ready()
        return ServerReady()

    return router


def build_open_inference(runtime: Runtime) -> APIRouter:
    """Build the other routes of the protocol."""
    router = APIRouter(prefix="/v2", tags=["open inference"])
    Authenticated: TypeAlias = Annotated[Client, Depends(runtime.authenticator.client)]

    def named(request: Request) -> Classifier:
        """Return the model, which the path must name."""
        classifier = runtime.classifier
        check_model(classifier.manifest, **request.path_params)
        request.state.record.model = classifier.identity.label
        return classifier

    @router.get(
        "",
        summary="The server",
        description="Returns the name of the server, the version of its API, and the extensions of the Open "
        "Inference Protocol that it supports.",
        operation_id="serverMetadata",
        responses={200: SERVER},
    )
    async def server() -> ServerMetadata:
        return ServerMetadata(version=API_VERSION, extensions=list(EXTENSIONS))

    async def metadata(request: Request) -> ModelMetadata:
        return model_metadata(named(request).manifest)

    async def ready(request: Request) -> ModelReady:
        runtime.check_ready()
        return ModelReady(name=named(request).manifest.name)

    async def infer(request: Request, client: Authenticated) -> Response:
        async with admit(runtime, request, client) as job:
            check_model(job.model.manifest, **request.path_params)
            lengths = request.headers.getlist(HEADER)
            inference = Inference(job.model.manifest, lambda body: parse_request(body, lengths))
            found = await inference.run(job)
            if isinstance(found, Failed):
                return found.response(job.record)
            head = {"model_name": job.model.manifest.name, "model_version": job.model.manifest.version}
            return _response(head, inference.request, found, job.record.request_id)

    for path, suffix, parameters in (
        ("/models/{name}", "", MODEL_PARAMETERS[:1]),
        ("/models/{name}/versions/{version}", "OfVersion", MODEL_PARAMETERS),
    ):
        router.get(
            path,
            summary="Inputs and outputs of the model",
            description="Returns the names, datatypes and shapes of the inputs and outputs. A request has "
            "one of the two inputs. The order of the probabilities is that of `classes` in `GET /model`.",
            operation_id=f"modelMetadata{suffix}",
            responses={**inference_errors(404, 503), 200: MODEL},
            openapi_extra={"parameters": parameters},
        )(metadata)
        router.get(
            f"{path}/ready",
            summary="Readiness of the model",
            description="Fails if the model is not the one being served, or is not ready.",
            operation_id=f"modelReady{suffix}",
            responses={**inference_errors(404, 503), 200: MODEL_READY},
            openapi_extra={"parameters": parameters},
        )(ready)
        router.post(
            f"{path}/infer",
            summary="Classify images by the Open Inference Protocol",
            description="Classifies 1 to 32 images as `POST /predict` does: the same decoder, decision rule "
            "and limits. If one image cannot be used, the whole request fails.",
            operation_id=f"infer{suffix}",
            response_class=Response,
            responses={**INFER_ERRORS, 200: INFER_RESPONSE},
            openapi_extra={"parameters": [*parameters, INFER_LENGTH], **INFER_BODY},
        )(infer)
    return router


def _response(
    head: dict[str, Any], request: InferRequest, results: list[Result], request_id: str
) -> Response:
    """Encode the results as the request asks: in the JSON, or in binary behind it."""
    all_binary = request.parameters.get("binary_data_output") is True
    asked = {output.name: output.parameters.get("binary_data", all_binary) for output in request.outputs}
    outputs, binary = [], []
    for result in results:
        output: dict[str, Any] = {
            "name": result.output.name,
            "datatype": result.output.datatype,
            "shape": list(result.values.shape),
        }
        if asked.get(result.output.name, all_binary) is True:
            binary.append(result.raw())
            output["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            output["data"] = result.elements()
        outputs.append(output)
    text = to_json(head | {"id": request.id or request_id, "outputs": outputs})
    if not binary:
        return Response(text, media_type="application/json")
    headers = {HEADER: str(len(text))}
    return Response(b"".join([text, *binary]), headers=headers, media_type="application/octet-stream")
