"""Answers for pages of other origins, where the operator named those."""

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
    """Headers that let a page of ``origin`` read an answer, where it is one of ``allowed``."""
    if not origin or not {"*", origin} & set(allowed):
        return {}
    return {
        "Access-Control-Allow-Origin": "*" if "*" in allowed else origin,
        "Access-Control-Expose-Headers": ", ".join(_EXPOSED_HEADERS),
        "Vary": "Origin",
    }


class Cors(CORSMiddleware):
    """Starlette's middleware, whose refusals are problems like all others.

    It stands inside the envelope, so that its answers have an id and a log line, and around all
    else, so that problems carry its headers too and a preflight needs no key.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        """Let pages of ``origins`` read answers. Never with credentials: there are no cookies here."""
        super().__init__(
            UnhandledErrors(app),  # here too: also the answer to a failure needs the headers of this
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=_ALLOWED_HEADERS,
            expose_headers=_EXPOSED_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a preflight.

        Raises:
            InvalidRequest: not that origin, method or header.
        """
        response = super().preflight_response(request_headers)
        if response.status_code >= 400:
            raise InvalidRequest("Pages of that origin, that method or these headers are not let in.")
        return response
