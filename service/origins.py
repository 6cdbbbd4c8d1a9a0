"""Origins of web pages, as RFC 6454 and the browsers write them."""

import re

_DEFAULT_PORTS = {"http": "80", "https": "443"}
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)


def parse_origins(text: str) -> tuple[str, ...]:
    """Origins as browsers send them, from a comma separated list, or ``*`` for any.

    Raises:
        ValueError: naming what is no origin.
    """
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    if "*" in origins and len(origins) > 1:
        raise ValueError("'*' alone, or origins without it")
    for origin in origins:
        found = _ORIGIN.fullmatch(origin)
        if origin != "*" and (found is None or found["port"] == _DEFAULT_PORTS.get(found["scheme"], "")):
            raise ValueError(
                "origins such as https://clinic.example or http://localhost:3000, in lower case, without "
                f"path or default port; not {origin!r}"
            )
    return origins
