"""The pages for people: complete without any other host, under a strict policy."""

import re

import pytest

from tests.service.door import Door

ABSOLUTE = re.compile(
    r"""(?:src|href|action)\s*=\s*["']?\s*(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import"""
)


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_a_page_and_all_its_assets_come_from_this_process(client: Door, page: str) -> None:
    response = client.get(page)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert "http" not in response.text
    assets = re.findall(r'(?:src|href)="([^"]+)"', response.text)
    assert len(assets) >= 3
    for asset in assets:
        assert not ABSOLUTE.search(f'src="{asset}"')
        found = client.get(page.rsplit("/", 1)[0] + "/" + asset)
        assert found.status_code == 200, asset
        if asset.endswith((".css", ".html")) or "static/page" in asset or asset.endswith("docs.js"):
            assert not ABSOLUTE.search(found.text), asset


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_a_page_may_load_nothing_from_elsewhere_and_run_no_inline_script(client: Door, page: str) -> None:
    response = client.get(page)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "http" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|javascript:", response.text)


def test_swagger_ui_asks_no_public_validator(client: Door) -> None:
    assert "validatorUrl: null" in client.get("/static/docs.js").text


def test_the_home_page_says_what_it_is_not_for(client: Door) -> None:
    assert "Research use only — not for diagnosis" in client.get("/").text


@pytest.mark.parametrize(
    "path", ["/redoc", "/nothing", "/static/../app.py", "/static/%2e%2e/app.py", "/predict/"]
)
def test_other_addresses_are_404_problems(client: Door, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["request_id"] == response.headers["x-request-id"]
