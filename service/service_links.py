"""Recognizes the environment variables that Kubernetes sets in a pod for each Service of its namespace.

For a Service named ``dermaserve`` they begin with ``DERMASERVE_``, like the settings: one of them is
``DERMASERVE_PORT=tcp://10.0.0.1:8000``. They are not settings. ``enableServiceLinks: false`` in the pod turns
them off.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

_PROTOCOLS = ("tcp", "udp", "sctp")
_ANY_PORT = r"PORT_\d+_(?:TCP|UDP|SCTP)"


def _is_url(value: str) -> bool:
    try:
        url = urlsplit(value)
        exact = f"{url.scheme}://{url.netloc}" == value and url.username is None and url.port is not None
        return exact and url.scheme in _PROTOCOLS and _is_address(url.hostname or "")
    except ValueError:  # the port is not a number, or is too large
        return False


def _is_address(value: str) -> bool:
    try:
        return bool(ipaddress.ip_address(value))
    except ValueError:
        return False


def _is_port(value: str) -> bool:
    return value.isascii() and value.isdecimal() and 0 < int(value) < 65536


_FORMS: list[tuple[str, Callable[[str], bool]]] = [
    (rf"PORT|{_ANY_PORT}", _is_url),
    (rf"SERVICE_HOST|{_ANY_PORT}_ADDR", _is_address),
    (rf"SERVICE_PORT(?:_\w+)?|{_ANY_PORT}_PORT", _is_port),
    (rf"{_ANY_PORT}_PROTO", lambda value: value in _PROTOCOLS),
]
"""Pattern of the end of a name, and a test of its value."""


def service_links(environment: Mapping[str, str], prefix: str) -> list[str]:
    """Return the sorted names of the variables that Kubernetes has set for a Service.

    Args:
        environment: names and values.
        prefix: start of a name, with its underscore. The name of the Service may be longer, such as
            ``dermaserve-metrics``.
    """
    return sorted(
        name
        for name, value in environment.items()
        for form, fits in _FORMS
        if re.fullmatch(rf"{prefix}(?:\w+_)?(?:{form})", name, re.ASCII) and fits(value)
    )
