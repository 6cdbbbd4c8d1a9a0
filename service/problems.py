"""Failures as HTTP answers: ``application/problem+json``, RFC 9457."""

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import DermaserveError
from service.errors import (
    INTERNAL,
    URN,
    InvalidRequest,
    Kind,
    ShuttingDown,
    Unauthorized,
    Unavailable,
    detail_of,
    kind_of,
)
from service.record import Record
from service.schemas import Problem

MEDIA_TYPE = "application/problem+json"

logger = logging.getLogger(__name__)


def problem_of(error: BaseException, request_id: str) -> Problem:
    """``error`` as a client may see it. Failures of our own are logged with their stack trace."""
    _log_failure(error, request_id)
    return _problem(kind_of(error), detail_of(error), request_id)


def problem_response(error: BaseException, record: Record) -> Response:
    """``error`` as a complete answer. Failures of our own are logged with their stack trace."""
    _log_failure(error, record.request_id)
    headers = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "ApiKey"
    return _response(kind_of(error), detail_of(error), record, headers)


def _log_failure(error: BaseException, request_id: str) -> None:
    if kind_of(error) is INTERNAL:
        extra = {"event": "failure", "fields": {"request_id": request_id}}
        logger.error("request %s failed", request_id, exc_info=error, extra=extra)


def add_problem_handlers(app: FastAPI) -> None:
    """Make every error of ``app`` that a handler can see a problem."""

    async def on_ours(request: Request, error: Exception) -> Response:
        return problem_response(error, request.state.record)

    async def on_validation(request: Request, error: Exception) -> Response:
        names = []
        if isinstance(error, RequestValidationError):
            names = [".".join(str(part) for part in e["loc"]) for e in error.errors()]
        detail = f"Not acceptable: {', '.join(names)}. See the API's documentation for what is."
        return problem_response(InvalidRequest(detail), request.state.record)

    async def on_http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = dict((error.headers if isinstance(error, HTTPException) else None) or {})
        allowed = headers.get("Allow", "").split(", ")
        if "GET" in allowed and "HEAD" not in allowed:
            headers["Allow"] += ", HEAD"  # the envelope makes one of the other
        title = HTTPStatus(status).phrase
        kind = Kind(title.lower().replace(" ", "-"), title, status)
        detail = _HTTP_DETAILS.get(status, title + ".")
        return _response(kind, detail, request.state.record, headers)

    app.add_exception_handler(DermaserveError, on_ours)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)


class Rescue:
    """ASGI middleware, the last resort: whatever was not foreseen is logged, and answered as a problem."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection; ``state`` must hold the request's record."""
        started = False

        async def send_watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_watched)
        except (Exception, asyncio.CancelledError) as error:
            # Anything may have failed, and a client that waits for an answer gets one.
            if started or scope["type"] != "http":
                raise
            if isinstance(error, asyncio.CancelledError):
                error = ShuttingDown()  # only the server cancels requests: its time to stop is over
            await problem_response(error, scope["state"]["record"])(scope, receive, send)


_HTTP_DETAILS = {
    404: "There is nothing at this address; see /docs for what there is.",
    405: "This address does not answer that method; see the Allow header.",
}


def _problem(kind: Kind, detail: str, request_id: str) -> Problem:
    return Problem(
        type=URN + kind.type, title=kind.title, status=kind.status, detail=detail, request_id=request_id
    )


def _response(kind: Kind, detail: str, record: Record, headers: Mapping[str, str]) -> Response:
    record.problem = kind.type
    body = _problem(kind, detail, record.request_id).model_dump_json()
    return Response(body, status_code=kind.status, headers=dict(headers), media_type=MEDIA_TYPE)
