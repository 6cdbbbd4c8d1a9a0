"""The routes for those who run the service: probes, metrics, administration.

They are served on the public port, or, but for the probes, on the operations port alone.
"""

from fastapi import APIRouter, Depends, Request, Response

from service.api.examples import ALIVE, METRICS, READY, RELOADED
from service.api.openapi import answer, errors
from service.api.schemas import Alive, ModelName, Ready, Reloaded, model_name
from service.inference.classifier import ModelIdentity
from service.lifecycle import Runtime
from service.observability.exposition import Exposition


def build_probes(runtime: Runtime) -> APIRouter:
    """Liveness and readiness: open to everyone, as load balancers send no keys."""
    router = APIRouter(tags=["operations"])

    @router.get(
        "/livez",
        summary="Is the process up?",
        description="Fails where only a restart helps: an inference that does not end.",
        operation_id="livez",
        responses={**errors(503), 200: answer("It is.", ALIVE)},
    )
    async def livez() -> Alive:
        runtime.check_alive()
        return Alive()

    @router.get(
        "/readyz",
        summary="Does it take work?",
        description="Fails while the model is being loaded, from the first moment of a shutdown, and with "
        "`GET /livez`.",
        operation_id="readyz",
        responses={**errors(503), 200: answer("It does.", READY)},
    )
    async def readyz() -> Ready:
        runtime.check_ready()
        classifier = runtime.classifier
        return Ready(model=model_name(classifier.manifest), provider=classifier.provider)

    return router


def build_metrics(runtime: Runtime) -> APIRouter:
    """What Prometheus reads."""
    router = APIRouter(tags=["operations"])
    exposition = Exposition(runtime.metrics.registry)

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        description="In the text format, or in OpenMetrics for those who ask for it. Where the service has a "
        "port for operations, that one answers, without a key.",
        operation_id="metrics",
        response_class=Response,
        responses={
            200: {
                "description": "Metrics.",
                "content": {"text/plain": {"schema": {"type": "string"}, "example": METRICS}},
            }
        },
    )
    async def metrics(request: Request) -> Response:
        await runtime.authenticator.refresh()  # one of the metrics is the number of keys
        text = await exposition.text(request.headers.get("accept", ""))
        return Response(text.content, headers={"Content-Type": text.content_type})

    return router


def build_admin(runtime: Runtime) -> APIRouter:
    """What changes the running service: for keys with the role admin only, on whichever port."""
    router = APIRouter(
        prefix="/admin",
        tags=["operations"],
        dependencies=[Depends(runtime.authenticator.admin)],
        responses=errors(401, 403),
    )

    @router.post(
        "/reload",
        summary="Serve what the bundle's folder holds now",
        description="Loads, verifies and warms up the bundle beside the model that is being served, then "
        "exchanges them. No request fails for it: those being worked on end with the model they began "
        "with. The answer comes when new requests get the new model. A bundle that cannot be served is "
        "refused, and the old model goes on. A bundle that is being served already is only verified.",
        operation_id="reload",
        responses={**errors(409, 503), 200: answer("The model was exchanged.", RELOADED)},
    )
    async def reload() -> Reloaded:
        old, new = await runtime.reload(wait=False)
        return Reloaded(old=_name(old), new=_name(new))

    return router


def _name(model: ModelIdentity) -> ModelName:
    return ModelName(name=model.name, version=model.version)
