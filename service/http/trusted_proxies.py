"""Finds the client behind a proxy that is trusted to name it in ``X-Forwarded-For``."""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Iterable, Sequence

from service.proxies import network_of

_RESOLVE_EVERY = 5.0  # seconds; a container that is replaced gets another address

_NO_ADDRESS = (socket.EAI_NONAME, socket.EAI_NODATA)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TrustedProxies:
    """Knows the proxies. Runs on the event loop only.

    A host name trusts the addresses that it had when it was last resolved. Until then, and if it does not
    exist, it trusts none. If its lookup fails for another reason, it keeps its addresses.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        """Take the parsed entries of a setting."""
        networks = {entry: network_of(entry) for entry in entries}
        self._networks = [network for network in networks.values() if network is not None]
        self._names = [entry for entry, network in networks.items() if network is None]
        self._resolved: dict[str, set[_Address | None]] = {}
        self._resolve_after = 0.0
        self._resolving: asyncio.Task[None] | None = None

    def client(self, peer: str | None, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Return the address of the client, which is ``peer`` unless that is a trusted proxy.

        Args:
            peer: address of the other end of the connection.
            headers: of the request; names in lower case, and values.
        """
        if not (self._networks or self._names) or peer is None or not self._trusts(_parse(peer)):
            return peer
        named = b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1")
        found = peer
        # The last entry is of the proxy. Those before it are of its client, who may claim anything.
        for entry in reversed(named.split(",")):
            address = _parse(entry.strip())
            if address is None:
                break
            found = str(address)
            if not self._trusts(address):
                break
        return found

    def _trusts(self, address: _Address | None) -> bool:
        looking = self._resolving is not None and not self._resolving.done()
        if self._names and not looking and time.monotonic() >= self._resolve_after:
            self._resolve_after = time.monotonic() + _RESOLVE_EVERY
            self._resolving = asyncio.get_running_loop().create_task(self._resolve())
        if address is None:
            return False
        known = any(address in addresses for addresses in self._resolved.values())
        return known or any(address in network for network in self._networks)

    async def _resolve(self) -> None:
        loop = asyncio.get_running_loop()
        for name in self._names:
            try:
                found = await loop.getaddrinfo(name, None)
            except socket.gaierror as error:
                if error.errno in _NO_ADDRESS:  # the proxy does not run
                    self._resolved.pop(name, None)
            except OSError:
                pass
            else:
                self._resolved[name] = {_parse(str(each[-1][0])) for each in found}


def _parse(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
