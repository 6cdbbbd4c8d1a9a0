"""CORS: lets the pages of configured origins read responses."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from service.errors import InvalidRequest
from service.http.problems import UnhandledErrors

_ALLOWED_HEADERS = ("Content-Type", "If-None-Match", "X-API-Key", "X-Request-ID")
_EXPOSED_HEADERS = ("ETag", "Retry-After", "X-Gradcam-Empty", "X-Gradcam-Label", "X-Model", "X-Request-ID")


def cors_headers(origin: str, allowed: Sequence[str]) -> dict[str, str]:
    """Return the headers that let a page of ``origin`` read a response; none if it is not ``allowed``."""
    if not origin or not {"*", origin} & set(allowed):
        return {}
    return {
        "Access-Control-Allow-Origin": "*" if "*" in allowed else origin,
        "Access-Control-Expose-Headers": ", ".join(_EXPOSED_HEADERS),
        "Vary": "Origin",
    }


class Cors(CORSMiddleware):
    """Starlette's middleware, with rejections as problems.

    ``RequestMiddleware`` is outside it, so that its responses have an id and a log line. Everything else is
    inside it, so that problems have its headers too, and a preflight request needs no key.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        """Let pages of ``origins`` read responses, without credentials: the service has no cookies."""
        super().__init__(
            UnhandledErrors(app),  # inside, so that failures have the CORS headers too
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=_ALLOWED_HEADERS,
            expose_headers=_EXPOSED_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight request.

        Raises:
            InvalidRequest: the origin, the method or a header is not allowed.
        """
        response = super().preflight_response(request_headers)
        if response.status_code >= 400:
            raise InvalidRequest("The origin, the method or a header is not allowed.")
        return response
