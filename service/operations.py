"""The routes for those who run the service: probes, metrics, administration.

They are served on the public port, or, but for the probes, on the operations port alone.
"""

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client.exposition import choose_encoder

from service.answers import model_name
from service.docs import errors
from service.runtime import Runtime
from service.schemas import Alive, Ready


def build_probes(runtime: Runtime) -> APIRouter:
    """Liveness and readiness: open to everyone, as load balancers send no keys."""
    router = APIRouter(tags=["operations"])

    @router.get("/livez", summary="Is the process up?", operation_id="livez")
    async def livez() -> Alive:
        return Alive()

    @router.get("/readyz", summary="Does it take work?", operation_id="readyz", responses=errors(503))
    async def readyz() -> Ready:
        runtime.check_ready()
        classifier = runtime.classifier
        return Ready(model=model_name(classifier.manifest), provider=classifier.provider)

    return router


def build_metrics(runtime: Runtime) -> APIRouter:
    """What Prometheus reads."""
    router = APIRouter(tags=["operations"])

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        operation_id="metrics",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Metrics."}
        },
    )
    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(runtime.metrics.registry), headers={"Content-Type": content_type})

    return router


def build_admin(runtime: Runtime) -> APIRouter:
    """What changes the running service: for keys with the role admin only, on whichever port."""
    return APIRouter(
        prefix="/admin",
        tags=["operations"],
        dependencies=[Depends(runtime.access.admin)],
        responses=errors(401, 403),
    )
