"""The two pages for people, ``/`` and ``/docs``, with every asset served by this process.

Clinic networks have no way out: no page may name another host. FastAPI's own Swagger UI page loads
from a public CDN and needs an inline script; ours is a static file under a strict policy.
"""

from importlib import resources
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_STATIC = Path(__file__).parent / "static"

_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "style-src 'self'{styles}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _Assets(StaticFiles):
    """Files that a browser asks for anew each time: after an upgrade, old and new must not meet."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def add_pages(app: FastAPI) -> None:
    """Add ``/``, ``/docs`` and the folders that their assets come from."""
    swagger = str(resources.files("fastapi_swagger") / "resources")
    app.mount("/static/swagger", _Assets(directory=swagger), name="swagger")
    app.mount("/static", _Assets(directory=_STATIC), name="static")
    home, docs = ((_STATIC / name).read_text(encoding="utf-8") for name in ("index.html", "docs.html"))

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(home, headers=_headers(""))

    @app.get("/docs", include_in_schema=False)
    async def swagger_ui() -> HTMLResponse:
        # Swagger UI sets styles from its script.
        return HTMLResponse(docs, headers=_headers(" 'unsafe-inline'"))


def _headers(styles: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": _POLICY.format(styles=styles),
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
