"""Requests that are refused before anything is done for them, whatever they ask for."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import MalformedRequest, Overloaded
from service.metrics import Metrics

PROBES = {"/livez", "/readyz", "/metrics"}
"""Answered on connections over the limit too, so that a service under load does not look dead."""


def crowded() -> Overloaded:
    """What a connection over the limit is told."""
    return Overloaded("There are as many connections as are accepted.", reason="connections", retry_after=1)


class Doorkeeper:
    """ASGI middleware, inside the envelope, which answers what is raised here."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection.

        Raises:
            Overloaded: its connection is over the limit (``service.protocol`` says so), and it is no probe.
            MalformedRequest: another server might read it as something else.
        """
        if scope["type"] == "http":
            if scope["state"].get("crowded") and scope["path"] not in PROBES:
                error = crowded()
                self._metrics.refused(error.reason)
                raise error
            _check_framing(scope)
        await self._app(scope, receive, send)


def _check_framing(scope: Scope) -> None:
    """Refuse what h11 accepts, but a proxy in front of it may end elsewhere: request smuggling."""
    headers, version = Headers(scope=scope), scope["http_version"]
    if version not in ("1.0", "1.1"):
        raise MalformedRequest("Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    if "transfer-encoding" in headers and ("content-length" in headers or version == "1.0"):
        raise MalformedRequest("The request says in two ways where it ends.")
