"""Parses origins of web pages (RFC 6454)."""

import re

_DEFAULT_PORTS = {"http": "80", "https": "443"}
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)


def parse_origins(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of origins in the form that browsers send, or ``*`` for any origin.

    Raises:
        ValueError: a part is not an origin. The message names it.
    """
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    if "*" in origins and len(origins) > 1:
        raise ValueError("'*' alone, or origins without it")
    for origin in origins:
        match = _ORIGIN.fullmatch(origin)
        if origin != "*" and (match is None or match["port"] == _DEFAULT_PORTS.get(match["scheme"], "")):
            raise ValueError(
                "origins such as https://clinic.example or http://localhost:3000, in lower case, without "
                f"path or default port; not {origin!r}"
            )
    return origins
