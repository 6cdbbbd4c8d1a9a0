"""Environment variables that Kubernetes sets in a pod for every Service of its namespace.

For a Service named ``dermaserve`` these begin with ``DERMASERVE_``, as the settings do, and one of them is
``DERMASERVE_PORT=tcp://10.0.0.1:8000``. They are no settings. ``enableServiceLinks: false`` in the pod
turns them off.
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
    except ValueError:  # from port: not a number, or too large
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
"""How the names end, and what their values are."""


def service_links(environment: Mapping[str, str], prefix: str) -> list[str]:
    """Names of the variables in ``environment`` that Kubernetes has set for a Service, sorted.

    Args:
        environment: names and values.
        prefix: how a name begins, with its underscore; Services may go on, as ``dermaserve-metrics`` does.
    """
    return sorted(
        name
        for name, value in environment.items()
        for form, fits in _FORMS
        if re.fullmatch(rf"{prefix}(?:\w+_)?(?:{form})", name, re.ASCII) and fits(value)
    )
