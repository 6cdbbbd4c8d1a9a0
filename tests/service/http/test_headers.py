"""Headers of answers: model, caching, security, other origins, HEAD."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.admission.api_keys import line_of, new_token
from service.errors import SettingsError
from service.settings import load_settings
from tests.service.api.test_operations import samples
from tests.service.app_client import Client, running
from tests.service.conftest import JPEG, assert_problem

CLINIC = "https://clinic.example"
MODEL = "tiny-test-bundle/0.0.1"
ASKS = {"origin": CLINIC, "access-control-request-method": "POST"}


@pytest.fixture(scope="module")
def shared(tiny: Path) -> Iterator[Client]:
    """A service that lets pages of one other origin in."""
    with running(tiny, cors_origins=f"{CLINIC}, http://localhost:3000") as door:
        yield door


def preflight(door: Client, path: str = "/predict", **changes: str) -> Any:
    return door.request("OPTIONS", path, headers=ASKS | changes)


def test_answers_of_the_model_name_it_and_are_kept_by_nobody(client: Client, jpeg: bytes) -> None:
    files = [("files", ("a.jpg", jpeg))]
    for response in (
        client.post("/predict", content=jpeg, headers=JPEG),
        client.post("/gradcam", content=jpeg, headers=JPEG),
        client.post("/predict/batch", files=files),
    ):
        assert response.status_code == 200
        assert response.headers["x-model"] == MODEL
        assert response.headers["cache-control"] == "no-store"


def test_refusals_name_no_model(client: Client) -> None:
    for response in (client.post("/predict", content=b"nothing", headers=JPEG), client.get("/nothing")):
        assert "x-model" not in response.headers
        assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/model", "/openapi.json"])
def test_what_has_not_changed_is_not_sent_again(client: Client, path: str) -> None:
    first = client.get(path)
    tag = first.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
    assert first.headers["cache-control"] == "no-cache"
    for sent in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = client.get(path, headers={"if-none-match": sent})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    for sent in ('"other"', tag.strip('"'), ""):
        again = client.get(path, headers={"if-none-match": sent})
        assert (again.status_code, again.content) == (200, first.content)


def test_the_model_card_names_its_model(client: Client) -> None:
    assert client.get("/model").headers["x-model"] == MODEL


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/livez", "/model", "/metrics", "/nothing", "/static/page.css"]
)
def test_every_answer_is_guarded(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-request-id"]


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/model", "/metrics", "/static/page.css"])
def test_head_is_get_without_the_body(client: Client, path: str) -> None:
    whole, head = client.get(path), client.request("HEAD", path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize(("method", "path", "allowed"), [
    ("HEAD", "/predict", {"POST"}),
    ("OPTIONS", "/predict", {"POST"}),
    ("POST", "/model", {"GET", "HEAD"}),
    ("TRACE", "/livez", {"GET", "HEAD"}),
    ("BREW", "/livez", {"GET", "HEAD"}),
    ("POST", "/static/page.css", {"GET", "HEAD"}),
])  # fmt: skip
def test_other_methods_are_told_which_ones_there_are(
    client: Client, method: str, path: str, allowed: set[str]
) -> None:
    response = client.request(method, path)
    assert response.status_code == 405
    assert sorted(response.headers["allow"].split(", ")) == sorted(allowed)
    if method != "HEAD":
        assert_problem(response, 405, "method-not-allowed")


def test_without_the_setting_no_other_origin_is_let_in(client: Client) -> None:
    assert_problem(preflight(client), 405, "method-not-allowed")
    assert "access-control-allow-origin" not in client.get("/livez", headers={"origin": CLINIC}).headers


def test_pages_of_named_origins_may_read_answers_and_their_headers(shared: Client, jpeg: bytes) -> None:
    response = shared.post("/predict", content=jpeg, headers=JPEG | {"origin": CLINIC})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == CLINIC
    assert response.headers["vary"] == "Origin"
    exposed = set(response.headers["access-control-expose-headers"].split(", "))
    assert {"X-Request-ID", "X-Model", "Retry-After", "X-Gradcam-Label", "X-Gradcam-Empty"} <= exposed
    assert "access-control-allow-credentials" not in response.headers
    other = shared.post("/predict", content=jpeg, headers=JPEG | {"origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers


def test_any_origin_may_be_let_in(tiny: Path) -> None:
    with running(tiny, cors_origins="*") as door:
        assert preflight(door).headers["access-control-allow-origin"] == "*"
        assert door.get("/livez", headers={"origin": CLINIC}).headers["access-control-allow-origin"] == "*"


def test_a_preflight_is_answered_before_all_else_and_counts_as_no_image(shared: Client) -> None:
    before = samples(shared)
    response = preflight(
        shared,
        **{
            "access-control-request-headers": "content-type, if-none-match, x-api-key, x-request-id",
            "x-request-id": "mine",
        },
    )
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == CLINIC
    assert {"POST", "GET"} <= set(response.headers["access-control-allow-methods"].split(", "))
    assert response.headers["x-request-id"] == "mine"
    after = samples(shared)
    assert after["dermaserve_requests_total route=unmatched status=200"] == 1
    for name in ("dermaserve_receive_duration_seconds_count", "dermaserve_decode_duration_seconds_count"):
        assert after[name] == before[name]


def test_a_preflight_needs_no_key_and_pages_can_read_that_requests_do(tiny: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(line_of("north", new_token()) + "\n")
    with running(tiny, cors_origins=CLINIC, api_keys_file=keys) as door:
        assert preflight(door).status_code == 200
        response = door.post("/predict", headers=JPEG | {"origin": CLINIC})
    assert_problem(response, 401, "unauthorized")
    assert response.headers["access-control-allow-origin"] == CLINIC


@pytest.mark.parametrize("change", [
    {"origin": "https://clinic.example.evil.example"},
    {"access-control-request-method": "DELETE"},
    {"access-control-request-headers": "x-other"},
])  # fmt: skip
def test_a_preflight_that_is_refused_is_a_problem(shared: Client, change: dict[str, str]) -> None:
    assert_problem(preflight(shared, **change), 422, "invalid-request")


def test_problems_can_be_read_by_pages_too_even_those_nobody_foresaw(
    shared: Client, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = {"origin": CLINIC}
    found = [
        shared.post("/predict", content=b"nothing", headers=JPEG | origin),
        shared.get("/nothing", headers=origin),
        shared.get("/predict", headers=origin),
        shared.post("/predict", content=b"", headers=JPEG | origin | {"content-length": "999999999"}),
    ]

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("service.api.job.read_image", broken)
    found.append(shared.post("/predict", content=jpeg, headers=JPEG | origin))
    assert [response.status_code for response in found] == [415, 404, 405, 413, 500]
    for response in found:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["access-control-allow-origin"] == CLINIC
        assert "X-Request-ID" in response.headers["access-control-expose-headers"]


def test_a_service_that_is_not_ready_says_so_to_pages(tiny: Path, tmp_path: Path, jpeg: bytes) -> None:
    with running(tmp_path / "none", cors_origins=CLINIC) as door:
        response = door.post("/predict", content=jpeg, headers=JPEG | {"origin": CLINIC})
    assert_problem(response, 503, "not-ready")
    assert response.headers["access-control-allow-origin"] == CLINIC
    assert response.headers["retry-after"]


@pytest.mark.parametrize("origin", [
    CLINIC, "http://localhost:3000", "http://127.0.0.1:8080", "http://[::1]:5000", "capacitor://localhost",
    "https://xn--hautrzte-2za.example", f" {CLINIC} , http://a.b ", "*", "",
])  # fmt: skip
def test_origins_are_taken(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DERMASERVE_CORS_ORIGINS", origin)
    assert ",".join(load_settings().cors_origins) == origin.replace(" ", "")


@pytest.mark.parametrize("origin", [
    "clinic.example", "https://clinic.example/", "https://clinic.example/app", "https://Clinic.example",
    "https://clinic.example:443", "http://a:80", "https://*.clinic.example", "null", f"*, {CLINIC}",
    "https://a:", "https://u@a", "https://a?b", "https://a b", "https://hautärzte.example",
])  # fmt: skip
def test_what_no_browser_would_send_as_an_origin_is_a_wrong_setting(
    origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DERMASERVE_CORS_ORIGINS", origin)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    (line,) = caught.value.problems
    assert line.startswith("DERMASERVE_CORS_ORIGINS: expected ")
    assert origin in line
