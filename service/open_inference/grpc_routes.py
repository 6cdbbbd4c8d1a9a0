"""The calls of ``inference.GRPCInferenceService``, as routes whose bodies are messages.

So they pass through the same middleware, keys, admission and jobs as requests over HTTP.
"""

from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, Request, Response
from starlette.requests import ClientDisconnect

from service.admission.client import Client
from service.api.job import Failed, admit
from service.api.openapi import API_VERSION
from service.errors import ClientDisconnected, NotReady, UnknownModel
from service.lifecycle import Runtime
from service.open_inference.grpc_messages import MESSAGES, SERVICE, parse, parse_infer
from service.open_inference.inference import Inference
from service.open_inference.metadata import EXTENSIONS, check_model, model_metadata
from service.open_inference.request import InferRequest, Tensor

CALLS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")


def build_grpc_health(runtime: Runtime) -> APIRouter:
    """Build the calls for liveness and readiness of the server. They require no key."""
    router = APIRouter(prefix=f"/{SERVICE}")

    @router.post("/ServerLive")
    async def server_live() -> Response:
        return _answer("ServerLiveResponse", live=_holds(runtime.check_alive))

    @router.post("/ServerReady")
    async def server_ready() -> Response:
        return _answer("ServerReadyResponse", ready=_holds(runtime.check_ready))

    return router


def build_grpc_calls(runtime: Runtime) -> APIRouter:
    """Build the other calls."""
    router = APIRouter(prefix=f"/{SERVICE}")
    Authenticated: TypeAlias = Annotated[Client, Depends(runtime.authenticator.client)]

    @router.post("/ServerMetadata")
    async def server_metadata(client: Authenticated) -> Response:
        extensions = list(EXTENSIONS)
        return _answer(
            "ServerMetadataResponse", name="dermaserve", version=API_VERSION, extensions=extensions
        )

    @router.post("/ModelReady")
    async def model_ready(request: Request, client: Authenticated) -> Response:
        sent = parse("ModelReadyRequest", await _message(request))

        def check() -> None:
            runtime.check_ready()
            check_model(runtime.classifier.manifest, sent.name, sent.version)

        return _answer("ModelReadyResponse", ready=_holds(check))

    @router.post("/ModelMetadata")
    async def describe_model(request: Request, client: Authenticated) -> Response:
        sent = parse("ModelMetadataRequest", await _message(request))
        manifest = runtime.classifier.manifest
        check_model(manifest, sent.name, sent.version)
        return _answer("ModelMetadataResponse", **model_metadata(manifest).model_dump())

    @router.post("/ModelInfer")
    async def infer(request: Request, client: Authenticated) -> Response:
        async with admit(runtime, request, client) as job:
            manifest = job.model.manifest

            def parse_body(body: bytes) -> tuple[InferRequest, list[Tensor]]:
                message, asked, tensors = parse_infer(body)
                check_model(manifest, message.model_name, message.model_version)
                return asked, tensors

            inference = Inference(manifest, parse_body)
            found = await inference.run(job)
            if isinstance(found, Failed):
                return found.response(job.record)
            outputs = [
                {"name": r.output.name, "datatype": r.output.datatype, "shape": r.values.shape} for r in found
            ]
            return _answer(
                "ModelInferResponse",
                model_name=manifest.name,
                model_version=manifest.version,
                id=inference.request.id or job.record.request_id,
                outputs=outputs,
                raw_output_contents=[result.raw() for result in found],
            )

    return router


async def _message(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect as error:
        raise ClientDisconnected("The client cancelled the call.") from error


def _answer(message: str, /, **fields: Any) -> Response:
    return Response(MESSAGES[message](**fields).SerializeToString(), media_type="application/grpc")


def _holds(check: Any) -> bool:
    try:
        check()
    except (NotReady, UnknownModel):
        return False
    return True
