"""The pages ``/`` and ``/docs`` with their assets, and the OpenAPI document.

Many clinic networks have no internet access, so the pages load nothing from other hosts. FastAPI's Swagger UI
page loads from a public CDN and needs an inline script. The page here is a static file with a strict content
security policy.
"""

import json
from functools import cache
from importlib import resources
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from models.preprocess import ACCEPTED_FORMATS
from service.api.upload import RAW_TYPES
from service.http.etag import tagged

_STATIC = Path(__file__).parents[1] / "static"

_HEADERS = {
    # Swagger UI 5 sets styles by single properties, which does not require 'unsafe-inline'.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}


def add_pages(app: FastAPI, *, keys: bool) -> None:
    """Add the routes ``/``, ``/docs``, ``/openapi.json`` and ``/static``.

    Args:
        app: has all other routes.
        keys: whether the server has API keys. Without any, the document leaves out the routes of ``/admin``,
            which then reject every request.
    """
    swagger = str(resources.files("fastapi_swagger") / "resources")
    app.mount("/static/swagger", _Assets(directory=swagger), name="swagger")
    app.mount("/static", _Assets(directory=_STATIC), name="static")
    home, docs = ((_STATIC / name).read_text(encoding="utf-8") for name in ("index.html", "docs.html"))
    # Systems without these types know the endings.
    endings = ",.dcm" * ("DICOM" in ACCEPTED_FORMATS) + ",.heic,.heif" * ("HEIF" in ACCEPTED_FORMATS)
    home = home.replace("{accept}", ",".join(RAW_TYPES) + endings)

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(home, headers=_HEADERS)

    @cache  # takes milliseconds, and requires no key
    def document() -> bytes:
        whole = app.openapi()
        usable = {
            path: item for path, item in whole["paths"].items() if keys or not path.startswith("/admin/")
        }
        return json.dumps(whole | {"paths": usable}, ensure_ascii=False).encode()

    @app.get("/openapi.json", include_in_schema=False)
    def openapi(
        request: Request,
    ) -> Response:  # not async, so that it runs in a thread: the first call is slow
        return tagged(request, document(), "application/json")

    @app.get("/docs", include_in_schema=False)
    async def swagger_ui() -> HTMLResponse:
        return HTMLResponse(docs, headers=_HEADERS)


class _Assets(StaticFiles):
    """Static files without range requests: Starlette's response to a bad range is not a problem document."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection and ignore its ``Range`` header, as RFC 9110 allows."""
        headers = [header for header in scope["headers"] if header[0] != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)
