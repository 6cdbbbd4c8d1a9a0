"""The two pages for people, ``/`` and ``/docs``, with every asset served by this process; the API's document.

Clinic networks have no way out: no page may name another host. FastAPI's own Swagger UI page loads
from a public CDN and needs an inline script; ours is a static file under a strict policy.
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
    # Swagger UI 5 sets its styles one property at a time, which needs no 'unsafe-inline'.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}


def add_pages(app: FastAPI) -> None:
    """Add ``/``, ``/docs`` and the folders that their assets come from."""
    swagger = str(resources.files("fastapi_swagger") / "resources")
    app.mount("/static/swagger", _Assets(directory=swagger), name="swagger")
    app.mount("/static", _Assets(directory=_STATIC), name="static")
    home, docs = ((_STATIC / name).read_text(encoding="utf-8") for name in ("index.html", "docs.html"))
    home = home.replace("{accept}", ",".join(RAW_TYPES) + ",.dcm" * ("DICOM" in ACCEPTED_FORMATS))

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(home, headers=_HEADERS)

    @cache  # milliseconds each time, and nobody needs a key for it
    def document() -> bytes:
        return json.dumps(app.openapi(), ensure_ascii=False).encode()

    @app.get("/openapi.json", include_in_schema=False)
    def openapi(request: Request) -> Response:  # in a thread: the first one takes a while
        return tagged(request, document(), "application/json")

    @app.get("/docs", include_in_schema=False)
    async def swagger_ui() -> HTMLResponse:
        return HTMLResponse(docs, headers=_HEADERS)


class _Assets(StaticFiles):
    """Whole files only: Starlette refuses ranges that cannot be met in words of its own, not as problems."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection as if it asked for no range, as RFC 9110 allows."""
        headers = [header for header in scope["headers"] if header[0] != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)
