"""The application: settings in, ASGI app out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from service.docs import API_VERSION, DESCRIPTION, TAGS, TITLE, add_problem_schema
from service.gate import Phase
from service.middleware import Envelope
from service.pages import add_pages
from service.problems import add_problem_handlers
from service.routes import build_router
from service.runtime import Runtime
from service.settings import Settings


def create_app(settings: Settings, runtime: Runtime | None = None) -> FastAPI:
    """The service as an ASGI app; its lifespan loads the model and lets it go.

    Args:
        settings: checked settings, from ``load_settings``.
        runtime: given by a server that has to drain it; made from ``settings`` otherwise.
    """
    runtime = runtime or Runtime(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await runtime.start()
        try:
            yield
        finally:
            await runtime.stop()

    app = _Documented(
        title=TITLE,
        version=API_VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(
        Envelope,
        metrics=runtime.metrics,
        closing=lambda: runtime.gate.phase in (Phase.DRAINING, Phase.CLOSED),
    )
    add_problem_handlers(app)
    app.include_router(build_router(runtime))
    add_pages(app)
    return app


class _Documented(FastAPI):
    """FastAPI whose OpenAPI document holds the schema of problems."""

    def openapi(self) -> dict[str, Any]:
        return add_problem_schema(super().openapi())
