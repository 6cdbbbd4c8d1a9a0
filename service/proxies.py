"""Parses the list of proxies that may name their clients."""

import ipaddress
import re

_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*(?!.{64})[a-z0-9_-]*[a-z][a-z0-9_-]*")
"""A longer part of a name would be a UnicodeError when it is looked up."""


def parse_proxies(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of addresses, networks and host names.

    Raises:
        ValueError: a part is none of them. The message names it.
    """
    entries = tuple(part.strip() for part in text.split(",") if part.strip())
    for entry in entries:
        if network_of(entry) is None and not _NAME.fullmatch(entry):
            raise ValueError(
                "addresses, networks or host names such as 10.0.0.7, 10.0.0.0/24 or proxy, in lower case; "
                f"not {entry!r}"
            )
    return entries


def network_of(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Return the network that an entry states, of one address if it is an address; None for a host name."""
    try:
        return ipaddress.ip_network(entry)
    except ValueError:
        return None
