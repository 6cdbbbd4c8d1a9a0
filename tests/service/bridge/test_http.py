"""What failures of the archive and the service mean to the bridge."""

from pathlib import Path
from typing import Any, cast

import pytest
import requests
from urllib3.exceptions import ReadTimeoutError

from service.bridge.http import failures_of, new_session
from service.errors import Away, BridgeStopped, InstanceRefused
from tests.service.bridge.scripted import Said, scripted
from tests.service.process import free_port

UID = "1.2.840.99"


def get(url: str, session: requests.Session | None = None, *, of_instance: bool = False) -> str:
    with failures_of("the archive", of_instance=of_instance):
        answer = (session or new_session()).get(f"{url}/{UID}", timeout=5)
        answer.raise_for_status()
        return answer.text


def failure(said: Said, *, of_instance: bool = False) -> Exception:
    with scripted({f"GET /{UID}": said}) as server, pytest.raises(Exception) as caught:  # noqa: PT011
        get(server.url, of_instance=of_instance)
    return caught.value


def test_nobody_there_is_away_and_no_address_is_told() -> None:
    with pytest.raises(Away) as caught:
        get(f"http://127.0.0.1:{free_port()}", of_instance=True)
    assert str(caught.value) == "the archive does not answer (ConnectionError)"
    assert not caught.value.fault


@pytest.mark.parametrize("status", [408, 429, 502, 503, 507])
def test_a_temporary_status_is_away_without_an_end(status: int) -> None:
    found = failure(Said(status, headers={"Retry-After": "7"}), of_instance=True)
    assert isinstance(found, Away)
    assert (found.fault, found.retry_after) == (False, 7)
    assert str(found) == f"the archive answered {status}"


def test_a_date_to_retry_at_is_ignored() -> None:
    found = failure(Said(503, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}))
    assert isinstance(found, Away)
    assert found.retry_after == 0


@pytest.mark.parametrize("of_instance", [False, True])
@pytest.mark.parametrize("status", [500, 504])
def test_an_error_of_the_other_side_is_a_fault_where_it_may_be_due_to_the_instance(
    of_instance: bool, status: int
) -> None:
    found = failure(Said(status), of_instance=of_instance)
    assert isinstance(found, Away)
    assert found.fault == of_instance


@pytest.mark.parametrize("of_instance", [False, True])
@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (requests.ReadTimeout(), True),
        (requests.exceptions.ChunkedEncodingError(), True),
        (requests.ConnectionError(ReadTimeoutError(cast(Any, None), "", "late")), True),
        (requests.ConnectTimeout(), False),
        (requests.ConnectionError("aborted"), False),
    ],
)
def test_a_late_or_incomplete_answer_is_a_fault_and_a_missing_connection_is_not(
    error: Exception, fault: bool, of_instance: bool
) -> None:
    with pytest.raises(Away) as caught, failures_of("the archive", of_instance=of_instance):
        raise error
    assert caught.value.fault == (fault and of_instance)


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_stops_the_bridge(status: int) -> None:
    assert isinstance(failure(Said(status)), BridgeStopped)


def test_a_redirect_is_not_followed() -> None:
    with scripted({}) as other:
        assert isinstance(failure(Said(302, headers={"Location": other.url})), BridgeStopped)
        assert other.asked == []


@pytest.mark.parametrize("status", [400, 404, 406, 410])
def test_any_other_status_is_about_the_instance(status: int) -> None:
    found = failure(Said(status))
    assert isinstance(found, InstanceRefused)
    assert UID not in str(found)


def test_a_proxy_of_the_environment_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted({f"GET /{UID}": Said(body="x")}) as server, scripted({}) as proxy:
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(variable, proxy.url)
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(variable, raising=False)
        assert get(server.url) == "x"
        assert proxy.asked == []


def test_authorities_of_the_operator_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    assert new_session().verify is True
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/authorities.pem")
    assert new_session().verify == "/etc/authorities.pem"


def test_only_the_given_password_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with scripted({f"GET /{UID}": Said()}) as server:
        get(server.url)
        get(server.url, new_session("bridge", "secret"))
    assert [asked.headers.get("Authorization") for asked in server.asked] == [
        None,
        "Basic YnJpZGdlOnNlY3JldA==",
    ]
