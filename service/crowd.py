"""A connection over the limit is answered for probes only, so that a full house does not look dead."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Overloaded
from service.metrics import Metrics

PROBES = {"/livez", "/readyz", "/metrics"}


def crowded() -> Overloaded:
    """What a connection over the limit is told."""
    return Overloaded("There are as many connections as are accepted.", reason="connections", retry_after=1)


class ProbesOnly:
    """ASGI middleware, inside the envelope, for what ``service.protocol`` has marked as crowded."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection.

        Raises:
            Overloaded: it is over the limit, and no probe.
        """
        if scope.get("state", {}).get("crowded") and scope["path"] not in PROBES:
            error = crowded()
            self._metrics.refused(error.reason)
            raise error
        await self._app(scope, receive, send)
