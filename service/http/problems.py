"""Errors as HTTP responses: ``application/problem+json`` (RFC 9457)."""

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import DermaserveError
from service.errors import (
    INTERNAL,
    URN,
    Fault,
    InvalidRequest,
    ShuttingDown,
    Unauthorized,
    Unavailable,
    detail_of,
    kind_of,
)
from service.observability.request_record import RequestRecord

MEDIA_TYPE = "application/problem+json"

logger = logging.getLogger(__name__)


def _absent(value: object) -> bool:
    """Whether to leave a member out of the response: it is empty."""
    return not value


class RequestFault(BaseModel):
    """One thing that is wrong with a request, and where."""

    detail: str = Field(examples=["Expected true or false."])
    parameter: str | SkipJsonSchema[None] = Field(
        default=None,
        exclude_if=_absent,
        description="The query parameter that it is about.",
        examples=["gradcam_class"],
    )
    pointer: str | SkipJsonSchema[None] = Field(
        default=None,
        exclude_if=_absent,
        description="The part of the body that it is about, as a JSON pointer: `#/file`, `#/files/3`, or "
        "`#` for the whole body.",
        examples=["#/files/3"],
    )


class Problem(BaseModel):
    """An error, as RFC 9457 (`application/problem+json`)."""

    type: str = Field(examples=["urn:dermaserve:problem:corrupt-image"])
    title: str = Field(examples=["Image is truncated or damaged"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["The JPEG image is truncated or damaged and cannot be decoded."])
    request_id: str
    errors: list[RequestFault] = Field(
        default_factory=list,
        exclude_if=_absent,
        description="What is wrong where, of an invalid request; absent where there is nothing to name.",
    )


class InferenceError(Problem):
    """A problem as clients of the Open Inference Protocol read it: they read ``error``."""

    error: str = Field(description="The same as `detail`.", examples=["The model is being loaded."])


def problem_of(error: BaseException, request_id: str) -> Problem:
    """Return ``error`` as a client may see it. Internal errors are logged with their stack trace."""
    kind = kind_of(error)
    if kind is INTERNAL:
        extra = {"event": "failure", "fields": {"request_id": request_id}}
        logger.error("request %s failed", request_id, exc_info=error, extra=extra)
    faults = error.faults if isinstance(error, InvalidRequest) else ()
    return Problem(
        type=URN + kind.type,
        title=kind.title,
        status=kind.status,
        detail=detail_of(error),
        request_id=request_id,
        errors=[RequestFault(**fault._asdict()) for fault in faults],
    )


def problem_response(error: BaseException, record: RequestRecord) -> Response:
    """Return ``error`` as a complete response. Internal errors are logged with their stack trace."""
    problem = problem_of(error, record.request_id)
    headers = {"WWW-Authenticate": "ApiKey"} if isinstance(error, Unauthorized) else {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    return answer_of(problem, record, headers)


def answer_of(problem: Problem, record: RequestRecord, headers: Mapping[str, str]) -> Response:
    """Return ``problem`` as a complete response with ``headers``."""
    record.problem = problem.type.removeprefix(URN)
    if record.open_inference:
        error = InferenceError(error=problem.detail, **dict(problem))
        return Response(error.model_dump_json(), problem.status, dict(headers), "application/json")
    body = problem.model_dump_json()
    return Response(body, status_code=problem.status, headers=dict(headers), media_type=MEDIA_TYPE)


def add_problem_handlers(app: FastAPI) -> None:
    """Turn the errors that reach the exception handlers of ``app`` into problems."""

    async def on_ours(request: Request, error: Exception) -> Response:
        return problem_response(error, request.state.record)

    async def on_validation(request: Request, error: Exception) -> Response:
        # FastAPI validates query parameters only. The last part of ``loc`` is the name.
        found = error.errors() if isinstance(error, RequestValidationError) else []
        faults = [
            Fault(_EXPECTED.get(e["type"], "The value is not acceptable."), str(e["loc"][-1])) for e in found
        ]
        names = ", ".join(str(fault.parameter) for fault in faults)
        detail = f"Not acceptable: {names}. See the API's documentation for what is."
        return problem_response(InvalidRequest(detail, faults=faults), request.state.record)

    async def on_http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = dict((error.headers if isinstance(error, HTTPException) else None) or {})
        allowed = headers.get("Allow", "").split(", ")
        if "GET" in allowed and "HEAD" not in allowed:
            headers["Allow"] += ", HEAD"  # RequestMiddleware handles HEAD as GET
        title = HTTPStatus(status).phrase
        record: RequestRecord = request.state.record
        problem = Problem(
            type=URN + title.lower().replace(" ", "-"),
            title=title,
            status=status,
            detail=_HTTP_DETAILS.get(status, title + "."),
            request_id=record.request_id,
        )
        return answer_of(problem, record, headers)

    app.add_exception_handler(DermaserveError, on_ours)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)


class UnhandledErrors:
    """ASGI middleware that logs unexpected exceptions and responds with a problem."""

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
            # Any exception may arrive here. The client gets a response if none has begun.
            if started or scope["type"] != "http":
                raise
            if isinstance(error, asyncio.CancelledError):
                error = ShuttingDown()  # only the server cancels requests, at the end of its grace period
            await problem_response(error, scope["state"]["record"])(scope, receive, send)


_HTTP_DETAILS = {
    404: "There is nothing at this address; see /docs for what there is.",
    405: "This address does not answer that method; see the Allow header.",
}


_EXPECTED = {
    "bool_parsing": "Expected true or false.",
    "string_too_long": "The value is too long.",
}
"""Details for parameters, by pydantic's type of error."""
