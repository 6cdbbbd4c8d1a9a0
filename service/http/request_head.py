"""Checks the head of a request, beyond what llhttp checks."""

from collections.abc import Sequence

from service.errors import MalformedRequest

MAX_HEAD_BYTES = 16_384
"""Largest size of a request line and its headers together."""


def check_head(method: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Reject heads that a proxy in front of this server may interpret differently.

    Args:
        method: in upper case.
        version: of HTTP, such as ``"1.1"``.
        headers: pairs of a name in lower case and a value.

    Raises:
        MalformedRequest: the version is not supported, there is not exactly one Host header, the transfer
            encoding is not chunked, or the method is CONNECT.
    """
    if version not in ("1.0", "1.1"):
        raise MalformedRequest("Only HTTP/1.1 and HTTP/1.0 are supported.")
    hosts = sum(name == b"host" for name, _ in headers)
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise MalformedRequest("The request must have one Host header.")
    encodings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if encodings and (encodings != [b"chunked"] or version == "1.0"):
        raise MalformedRequest("The only supported transfer encoding is chunked, in HTTP/1.1.")
    if method == b"CONNECT":
        raise MalformedRequest("This server is not a proxy.")
