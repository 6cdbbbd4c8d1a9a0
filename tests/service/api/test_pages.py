"""The pages load nothing from other hosts and have a strict content security policy."""

import re

import pytest

from tests.service.app_client import Client

ABSOLUTE = re.compile(
    r"""(?:src|href|action|from)\s*=?\s*["']?\s*(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import"""
)
"""Matches what would load from another host, in HTML, CSS or JavaScript."""


def assets(client: Client, page: str) -> dict[str, str]:
    """Return every file of a page by its address. Scripts import further files."""
    found: dict[str, str] = {}
    wanted = [page]
    while wanted:
        address = wanted.pop()
        response = client.get(address)
        assert response.status_code == 200, address
        found[address] = response.text
        if not address.startswith("/static/swagger"):
            named = re.findall(r'(?:src|href)="([^"]+)"', response.text)
            named += [f"static/{name}" for name in re.findall(r'from "\./([^"]+)"', response.text)]
            wanted += [f"/{name}" for name in named if f"/{name}" not in found and name.startswith("static/")]
    return found


@pytest.mark.parametrize(("page", "least"), [("/", 9), ("/docs", 5)])
def test_a_page_and_all_its_assets_come_from_this_process(client: Client, page: str, least: int) -> None:
    found = assets(client, page)
    assert len(found) >= least
    for address, text in found.items():
        # Swagger UI's files name hosts in their comments; the browser tests see that none is asked.
        if not address.startswith("/static/swagger"):
            assert not ABSOLUTE.search(text), address


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_the_content_security_policy_forbids_other_hosts_and_inline_scripts(
    client: Client, page: str
) -> None:
    response = client.get(page)
    assert response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "style-src 'self';" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\s(?:on\w+|style)=|javascript:", response.text)


@pytest.mark.parametrize("path", ["/static/page.js", "/static/page.css", "/static/swagger/swagger-ui.css"])
def test_assets_are_revalidated_so_that_versions_do_not_mix(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.headers["cache-control"] == "no-cache"
    again = client.get(path, headers={"if-none-match": response.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    "range_", ["bytes=0-1", "bytes=0-1,5-9", "bytes=9-1", "bytes=abc", "bytes=99999999-"]
)
def test_range_requests_get_the_whole_asset(client: Client, range_: str) -> None:
    whole = client.get("/static/page.js")
    response = client.get("/static/page.js", headers={"range": range_})
    assert (response.status_code, response.content) == (200, whole.content)


def test_the_openapi_document_is_built_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    first = client.get("/openapi.json")
    monkeypatch.setattr(client.app, "openapi", lambda: pytest.fail("written again"))
    assert client.get("/openapi.json").content == first.content


def test_swagger_ui_uses_no_public_validator(client: Client) -> None:
    assert "validatorUrl: null" in client.get("/static/docs.js").text


def test_the_home_page_says_that_it_is_not_for_diagnosis(client: Client) -> None:
    assert "Research use only — not for diagnosis" in client.get("/").text


@pytest.mark.parametrize(
    "path", ["/redoc", "/nothing", "/static/../app.py", "/static/%2e%2e/app.py", "/predict/"]
)
def test_other_addresses_are_404_problems(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["request_id"] == response.headers["x-request-id"]
