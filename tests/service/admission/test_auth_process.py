"""Keys and the ports of a real process: which settings it takes, what it says, what it listens to."""

import logging
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.admission.api_keys import line_of
from service.settings import load_settings
from tests.service.admission.keyed import ADMIN, LINES, NORTH, SOUTH, sent, write
from tests.service.app_client import running, wait_for
from tests.service.conftest import JPEG, assert_problem
from tests.service.decoders import Decoders
from tests.service.process import free_port, process
from tests.service.test_settings import problems

# Settings


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "clinic.example", "localhost.example"])
def test_without_keys_only_this_machine_is_listened_to(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    (line,) = problems(monkeypatch, HOST=host)
    assert line.startswith("DERMASERVE_HOST: expected a loopback address, as there are no API keys, got")
    assert "DERMASERVE_ALLOW_ANONYMOUS=true" in line
    monkeypatch.setenv("DERMASERVE_ALLOW_ANONYMOUS", "true")
    assert load_settings().host == host


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_needs_no_keys(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("DERMASERVE_HOST", host)
    assert load_settings().host == host


def test_the_operations_port_obeys_the_same_rule(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DERMASERVE_OPERATIONS_HOST", "0.0.0.0")
    assert load_settings().operations_port is None  # it is not used
    (line,) = problems(monkeypatch, OPERATIONS_PORT="9100")
    assert line.startswith("DERMASERVE_OPERATIONS_HOST: expected a loopback address")
    monkeypatch.setenv("DERMASERVE_API_KEYS_FILE", str(write(tmp_path / "keys", *LINES)))
    assert load_settings().operations_port == 9100


def test_with_keys_any_address_is_listened_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DERMASERVE_API_KEYS_FILE", str(write(tmp_path / "keys", *LINES)))
    monkeypatch.setenv("DERMASERVE_HOST", "0.0.0.0")
    assert load_settings().host == "0.0.0.0"
    (line,) = problems(monkeypatch, ALLOW_ANONYMOUS="true")
    assert line.startswith("DERMASERVE_ALLOW_ANONYMOUS: expected false where DERMASERVE_API_KEYS_FILE is set")


def test_a_wrong_key_file_is_told_with_all_other_problems(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write(tmp_path / "keys", *LINES, "south", LINES[0])
    lines = problems(monkeypatch, API_KEYS_FILE=str(path), PROT="1")
    assert [line.split(":")[0] for line in lines] == ["DERMASERVE_PROT"] + ["DERMASERVE_API_KEYS_FILE"] * 2
    assert [line.split(" ")[2:4] for line in lines[1:]] == [["line", "3:"], ["line", "4:"]]


@pytest.mark.parametrize("value", ["", "/nowhere/keys"])
def test_an_empty_or_missing_name_of_the_file_does_not_open_the_door(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    (line,) = problems(monkeypatch, API_KEYS_FILE=value)
    assert line.startswith("DERMASERVE_API_KEYS_FILE: ")


# The real process


def test_a_refusal_comes_before_the_body_and_operators_have_a_port_of_their_own(
    tmp_path: Path, tiny: Path
) -> None:
    path = write(tmp_path / "keys", *LINES)
    operations = f"http://127.0.0.1:{free_port()}"
    with process(tmp_path, tiny, API_KEYS_FILE=path, OPERATIONS_PORT=operations[17:]) as server:
        server.wait_ready()
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            head = (
                "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9\r\n\r\n"
            )
            connection.sendall(head.encode())  # and nothing of the body
            assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")

        for name in ("/livez", "/readyz"):
            assert httpx.get(server.url + name).status_code == 200
            assert httpx.get(operations + name).status_code == 200
        # Metrics without a key here; administration never.
        assert "dermaserve_keys 2.0" in httpx.get(operations + "/metrics").text
        assert httpx.post(operations + "/admin/reload").status_code == 401
        assert httpx.post(operations + "/admin/reload", headers=sent(NORTH)).status_code == 403
        assert httpx.post(operations + "/admin/reload", headers=sent(ADMIN), timeout=30).status_code == 200
        for name in ("/predict", "/model", "/", "/docs", "/openapi.json"):
            assert httpx.get(operations + name, headers=sent(ADMIN)).status_code == 404
        for method, name in (("GET", "/metrics"), ("POST", "/admin/reload")):
            response = httpx.request(method, server.url + name, headers=sent(ADMIN))
            assert_problem(response, 404, "not-found")
            assert name not in httpx.get(server.url + "/openapi.json").json()["paths"]

        write(path, line_of("south", SOUTH))
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: httpx.get(server.url + "/model", headers=sent(SOUTH)).status_code == 200)
        assert httpx.get(server.url + "/model", headers=sent(NORTH)).status_code == 401
        # Its line is written up to 50 ms after the keys are valid.
        wait_for(lambda: "The API keys changed. Valid now: south" in server.output())
        assert "dsk_" not in server.output()


def test_the_operations_port_stays_until_the_last_request_is_answered(
    tmp_path: Path, tiny: Path, jpeg: bytes
) -> None:
    operations = f"http://127.0.0.1:{free_port()}"
    answers = []
    settings = {"OPERATIONS_PORT": operations[17:], "DRAIN_PAUSE": 0}
    with process(tmp_path, tiny, **settings) as server:

        def predict() -> None:
            answers.append(httpx.post(server.url + "/predict", content=jpeg, headers=JPEG, timeout=60))

        server.wait_ready()
        client = threading.Thread(target=predict)
        in_progress = "dermaserve_requests_in_progress 1.0"
        with Decoders(server.process.pid).stopped():
            client.start()
            wait_for(lambda: in_progress in httpx.get(operations + "/metrics").text)
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: server.status("/livez") == 0)  # nobody listens on the public port any more
            assert httpx.get(operations + "/livez").status_code == 200
            assert httpx.get(operations + "/readyz").status_code == 503
            assert in_progress in httpx.get(operations + "/metrics").text
        client.join(20)
        assert server.process.wait(20) == 0, server.output()
        assert "Traceback" not in server.output()
    assert [answer.status_code for answer in answers] == [200]


def test_a_taken_operations_port_ends_the_process(tmp_path: Path, tiny: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with process(tmp_path, tiny, OPERATIONS_PORT=taken.getsockname()[1]) as server:
            assert server.process.wait(30) == 3
            assert "address already in use" in server.output()
            assert "Traceback" not in server.output()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "No API keys are set. Requests from this machine need no key."),
        ({"host": "0.0.0.0", "allow_anonymous": True}, "Anyone who can reach 0.0.0.0 needs no key"),
        ({"api_keys_file": "keys"}, "Valid API keys: north, chief"),
    ],
)
def test_the_log_says_who_is_let_in(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, options: dict[str, Any], expected: str
) -> None:
    path = write(tmp_path / "keys", *LINES)
    options |= {"api_keys_file": path} if "api_keys_file" in options else {}
    with caplog.at_level(logging.INFO), running(tiny, **options):
        assert expected in caplog.text
