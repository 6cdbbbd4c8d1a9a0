"""What a request's head must be, beyond what llhttp checks."""

from collections.abc import Sequence

from service.errors import MalformedRequest

MAX_HEAD_BYTES = 16_384
"""Of a request line and its headers."""


def check_head(method: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse what a proxy in front of this server may read in another way.

    Args:
        method: in capitals.
        version: of HTTP.
        headers: names in lower case, and values.

    Raises:
        MalformedRequest: another version, not exactly one host, or another transfer encoding than chunked.
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
