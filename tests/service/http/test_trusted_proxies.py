"""Whose request it is where a proxy stands before the service."""

import asyncio
import http.client
import socket
from pathlib import Path
from typing import Any

import pytest

from service.http.trusted_proxies import TrustedProxies
from service.system.fair_queue import Rank, rank_of
from tests.service.listening import listening

PROXY = "10.0.0.7"


def found(entries: tuple[str, ...], peer: str | None, *forwarded: str) -> str | None:
    headers = [(b"host", b"x"), *((b"x-forwarded-for", value.encode()) for value in forwarded)]
    return TrustedProxies(entries).client(peer, headers)


@pytest.mark.parametrize("entries", [(), ("10.0.0.8",), ("10.0.1.0/24",), ("fd00::/8",)])
def test_other_peers_name_nobody(entries: tuple[str, ...]) -> None:
    assert found(entries, PROXY, "203.0.113.5") == PROXY
    assert found(entries, None, "203.0.113.5") is None


@pytest.mark.parametrize("entries", [(PROXY,), ("10.0.0.0/24",), ("fd00::/8", PROXY)])
def test_a_trusted_proxy_names_its_client(entries: tuple[str, ...]) -> None:
    assert found(entries, PROXY, "203.0.113.5") == "203.0.113.5"
    assert found(entries, PROXY, "2001:db8::5") == "2001:db8::5"
    assert found(entries, f"::ffff:{PROXY}", "203.0.113.5") == "203.0.113.5"


def test_what_the_client_claims_before_the_entry_of_the_proxy_does_not_count() -> None:
    assert found((PROXY,), PROXY, "198.51.100.1, 203.0.113.5") == "203.0.113.5"
    assert found((PROXY,), PROXY, "198.51.100.1", "203.0.113.5") == "203.0.113.5"
    assert found((PROXY,), PROXY, "nonsense, 203.0.113.5") == "203.0.113.5"


def test_a_chain_of_trusted_proxies_is_followed_to_the_first_that_is_not() -> None:
    entries = (PROXY, "10.9.0.0/16")
    assert found(entries, PROXY, "198.51.100.1, 203.0.113.5, 10.9.1.1") == "203.0.113.5"
    assert found(entries, PROXY, "10.9.1.2, 10.9.1.1") == "10.9.1.2"


@pytest.mark.parametrize("value", ["", "nonsense", "203.0.113.5, ", "203.0.113.5:4711", "203.0.113.5, x"])
def test_without_an_address_the_proxy_is_the_client(value: str) -> None:
    assert found((PROXY,), PROXY, value) == PROXY
    assert found((PROXY,), PROXY) == PROXY


@pytest.mark.parametrize(("fault", "last"), [(socket.EAI_NONAME, PROXY), (socket.EAI_AGAIN, "203.0.113.5")])
def test_a_name_trusts_the_addresses_that_it_has_now(
    monkeypatch: pytest.MonkeyPatch, fault: int, last: str
) -> None:
    async def story() -> list[str | None]:
        addresses = {"proxy": PROXY}

        async def getaddrinfo(name: str, _: None) -> list[Any]:
            if name not in addresses:
                raise socket.gaierror(fault, "no address")
            return [(0, 0, 0, "", (addresses[name], 0))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)
        monkeypatch.setattr("service.http.trusted_proxies._RESOLVE_EVERY", 0.0)
        proxies = TrustedProxies(("proxy", "missing"))

        async def client() -> str | None:
            proxies.client(PROXY, [])
            await asyncio.sleep(0.01)
            return proxies.client(PROXY, [(b"x-forwarded-for", b"203.0.113.5")])

        seen = [await client()]
        addresses["proxy"] = "10.0.0.8"
        seen.append(await client())
        addresses["proxy"] = PROXY
        await client()
        addresses.clear()
        return [*seen, await client()]

    assert asyncio.run(story()) == ["203.0.113.5", PROXY, last]


def test_one_lookup_runs_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> int:
        asked = []

        async def getaddrinfo(name: str, _: None) -> list[Any]:
            asked.append(name)
            await asyncio.Event().wait()
            raise AssertionError

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)
        monkeypatch.setattr("service.http.trusted_proxies._RESOLVE_EVERY", 0.0)
        proxies = TrustedProxies(("proxy",))
        for _ in range(3):
            proxies.client(PROXY, [])
            await asyncio.sleep(0)
        return len(asked)

    assert asyncio.run(story()) == 1


@pytest.mark.parametrize(("trusted", "client"), [("", "127.0.0.1"), ("127.0.0.1", "203.0.113.5")])
def test_requests_take_turns_by_the_client_that_a_trusted_proxy_names(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, trusted: str, client: str
) -> None:
    ranked: list[str | None] = []

    def ranks(name: str | None, last: float) -> Rank:
        ranked.append(name)
        return rank_of(name, last)

    monkeypatch.setattr("service.http.connection.rank_of", ranks)
    with listening(tiny, trusted_proxies=trusted) as server:
        asking = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        for name in ("203.0.113.5", "203.0.113.6"):  # over one connection, as proxies do
            asking.request("GET", "/livez", headers={"X-Forwarded-For": name})
            assert asking.getresponse().read()
        asking.close()
    assert ranked == ([client, "203.0.113.6"] if trusted else [client, client])
