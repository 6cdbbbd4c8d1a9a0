"""The routes for operators: probes, metrics and administration.

With an operations port, that port serves all of them, and the public port serves only the probes.
"""

from fastapi import APIRouter, Depends, Request, Response

from service.api.examples import ALIVE, METRICS, READY, RELOADED
from service.api.openapi import error_responses, json_response
from service.api.schemas import Alive, ModelName, Ready, Reloaded, model_name
from service.inference.classifier import ModelIdentity
from service.lifecycle import Runtime
from service.observability.exposition import Exposition


def build_probes(runtime: Runtime) -> APIRouter:
    """Build the routes for liveness and readiness. They require no key, because load balancers send none."""
    router = APIRouter(tags=["operations"])

    @router.get(
        "/livez",
        summary="Liveness probe",
        description="Fails when inference or decoding hangs, and the process must be restarted.",
        operation_id="livez",
        responses={**error_responses(503), 200: json_response("The process works.", ALIVE)},
    )
    async def livez() -> Alive:
        runtime.check_alive()
        return Alive()

    @router.get(
        "/readyz",
        summary="Readiness probe",
        description="Fails while the model is being loaded, from the start of a shutdown, and when "
        "`GET /livez` fails.",
        operation_id="readyz",
        responses={**error_responses(503), 200: json_response("The service accepts requests.", READY)},
    )
    async def readyz() -> Ready:
        runtime.check_ready()
        classifier = runtime.classifier
        return Ready(model=model_name(classifier.manifest), provider=classifier.provider)

    return router


def build_metrics(runtime: Runtime) -> APIRouter:
    """Build the route that Prometheus scrapes."""
    router = APIRouter(tags=["operations"])
    exposition = Exposition(runtime.metrics.registry)

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        description="Returns the text format, or OpenMetrics if `Accept` asks for it. If the service has an "
        "operations port, only that port serves the metrics, and requires no key.",
        operation_id="metrics",
        response_class=Response,
        responses={
            200: {
                "description": "The metrics.",
                "content": {"text/plain": {"schema": {"type": "string"}, "example": METRICS}},
            }
        },
    )
    async def metrics(request: Request) -> Response:
        await runtime.authenticator.refresh()  # for the metric dermaserve_keys
        text = await exposition.text(request.headers.get("accept", ""))
        return Response(text.content, headers={"Content-Type": text.content_type})

    return router


def build_admin(runtime: Runtime) -> APIRouter:
    """Build the routes that change the service. They require a key with the role admin on any port."""
    router = APIRouter(
        prefix="/admin",
        tags=["operations"],
        dependencies=[Depends(runtime.authenticator.admin)],
        responses=error_responses(401, 403),
    )

    @router.post(
        "/reload",
        summary="Load the bundle again and serve it",
        description="Verifies, loads and warms up the bundle that the configured folder holds now, then "
        "replaces the served model. No request fails: requests in progress finish with the old model. The "
        "response is sent once new requests use the new model. A bundle that cannot be served is refused, "
        "and the old model stays in service. If the bundle is already being served, it is only verified.",
        operation_id="reload",
        responses={**error_responses(409, 503), 200: json_response("The new model is served.", RELOADED)},
    )
    async def reload() -> Reloaded:
        old, new = await runtime.reload(wait=False)
        return Reloaded(old=_name(old), new=_name(new))

    return router


def _name(model: ModelIdentity) -> ModelName:
    return ModelName(name=model.name, version=model.version)
