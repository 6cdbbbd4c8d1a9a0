"""Responses with an ETag, which clients may cache and revalidate (RFC 9110, section 13)."""

import hashlib

from starlette.requests import Request
from starlette.responses import Response


def tagged(request: Request, body: bytes, media_type: str) -> Response:
    """Return ``body`` with a strong ``ETag``, or status 304 if the client has the same body already."""
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"'}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if headers["ETag"] in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)
