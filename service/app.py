"""Builds the ASGI applications of the public port and the operations port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI
from fastapi.telemetry import TelemetryConfig

from service.admission.admission import Phase
from service.api.images import build_router
from service.api.openapi import (
    API_VERSION,
    DESCRIPTION,
    LICENCE,
    SERVERS,
    TAGS,
    TITLE,
    complete_document,
    error_responses,
)
from service.api.operations import build_admin, build_metrics, build_probes
from service.api.pages import add_pages
from service.http.cors import Cors
from service.http.middleware import RequestMiddleware
from service.http.problems import add_problem_handlers
from service.lifecycle import Runtime
from service.open_inference.documents import inference_errors
from service.open_inference.request import InferRequest
from service.open_inference.rest import build_open_inference, build_open_inference_health
from service.settings import Settings
from service.system.threads import in_thread

if TYPE_CHECKING:
    from service.observability.tracing import Tracing

# FastAPI's telemetry is on by default. It would send paths, queries, addresses and stack traces.
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def create_app(settings: Settings, runtime: Runtime | None = None) -> FastAPI:
    """Build the public application. Its lifespan loads and closes the model.

    Args:
        settings: from ``load_settings``.
        runtime: of the server that drains it. By default one is made from ``settings``.
    """
    runtime = runtime or Runtime(settings)
    tracing = _tracing() if settings.traces else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await runtime.start()
        try:
            yield
        finally:
            await runtime.stop()
            if tracing is not None:
                await asyncio.wrap_future(in_thread(tracing.close))

    app = _Documented(
        title=TITLE,
        version=API_VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        license_info=LICENCE,
        servers=SERVERS,
        lifespan=lifespan,
        telemetry=_NO_TELEMETRY,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
    )
    if settings.cors_origins:
        app.add_middleware(Cors, origins=settings.cors_origins)
    _add_middleware(app, runtime, tracing)
    app.state.tracing = tracing
    checked = [Depends(runtime.authenticator.client)]
    key_required: dict[str, Any] = {"dependencies": checked, "responses": error_responses(401)}
    app.include_router(build_router(runtime), **key_required)
    app.include_router(build_open_inference(runtime), dependencies=checked, responses=inference_errors(401))
    app.include_router(build_probes(runtime))
    app.include_router(build_open_inference_health(runtime))
    if settings.operations_port is None:
        app.include_router(build_metrics(runtime), **key_required)
        app.include_router(build_admin(runtime))
    add_pages(app, keys=settings.api_keys_file is not None)
    return app


def create_operations_app(runtime: Runtime) -> FastAPI:
    """Build the application of the operations port. It serves the metrics without a key."""
    app = FastAPI(
        openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, telemetry=_NO_TELEMETRY
    )
    _add_middleware(app, runtime)  # without traces, because probes and scrapes are not of interest
    for build in (build_probes, build_metrics, build_admin):
        app.include_router(build(runtime))
    return app


def create_grpc_app(runtime: Runtime, tracing: "Tracing | None") -> FastAPI:
    """Build the application that answers the calls of the gRPC port.

    Args:
        runtime: of the server.
        tracing: that of the public application, which closes it.
    """
    # Imported here: gRPC is an optional extra.
    from service.open_inference.grpc_routes import build_grpc_calls, build_grpc_health

    app = FastAPI(
        openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, telemetry=_NO_TELEMETRY
    )
    _add_middleware(app, runtime, tracing)
    app.include_router(build_grpc_calls(runtime))
    app.include_router(build_grpc_health(runtime))
    return app


def _add_middleware(app: FastAPI, runtime: Runtime, tracing: "Tracing | None" = None) -> None:
    app.add_middleware(
        RequestMiddleware,
        metrics=runtime.metrics,
        closing=lambda: runtime.admission.phase in (Phase.DRAINING, Phase.CLOSED),
        tracing=tracing,
        audit=runtime.settings.audit,
    )
    add_problem_handlers(app)


def _tracing() -> "Tracing":
    # Imported here: OpenTelemetry is an optional extra.
    from service.observability.tracing import Tracing

    return Tracing(API_VERSION)


class _Documented(FastAPI):
    """A FastAPI application with a complete OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = complete_document(super().openapi(), [InferRequest])
        return self.openapi_schema
