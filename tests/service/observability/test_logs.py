"""Logs: one object per line, which clients cannot forge, and no failure that affects a request."""

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, TiffImagePlugin

from service.observability.logs import JsonFormatter, TextFormatter
from tests.service.app_client import Client, running, wait_for
from tests.service.conftest import JPEG
from tests.service.observability.log_lines import lines
from tests.service.process import ROOT, Process, process
from tests.synthetic import encoded

EVIL = 'x\n{"level":"info","event":"request"}\r\x1b[2J"\u2028\udc80\\'


def requests(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the fields of the lines of all requests so far, as they are written."""
    events = [record for record in caplog.records if getattr(record, "event", "") == "request"]
    return [json.loads(JsonFormatter().format(record)) for record in events]


@pytest.fixture(autouse=True)
def _everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "service")


@pytest.fixture(scope="module")
def server(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with process(tmp_path_factory.mktemp("logs"), tiny) as server:
        server.wait_ready()
        yield server


def test_a_request_is_logged_in_one_line_with_sizes_stages_and_model(
    client: Client, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    response = client.post(
        "/predict?gradcam=true", content=jpeg, headers=JPEG | {"x-request-id": "mine", "user-agent": "spy"}
    )
    (line,) = requests(caplog)
    stages = line.pop("stage_seconds")
    assert list(stages) == ["receive", "decode", "queue", "inference", "overlay"]
    assert all(seconds >= 0 for seconds in stages.values())
    assert line.pop("duration_seconds") >= sum(stages.values()) - 1e-5
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": "mine",
        "method": "POST",
        "route": "/predict",
        "status": 200,
        "bytes_received": len(jpeg),
        "bytes_sent": len(response.content),
        "images": 1,
        "model": "tiny-test-bundle/0.0.1",
    }


def test_the_line_of_a_refused_request_has_its_problem_and_received_bytes(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.post("/predict", content=b"nothing", headers=JPEG)
    client.get("/predict")
    client.get("/a/patients/name?of=Doe")
    refused, wrong_method, nowhere = requests(caplog)
    assert refused["problem"] == "unsupported-image"
    assert refused["status"] == 415
    assert set(refused["stage_seconds"]) == {"receive", "decode"}
    assert (wrong_method["route"], wrong_method["problem"]) == ("/predict", "method-not-allowed")
    assert (nowhere["route"], nowhere["problem"]) == ("unmatched", "not-found")
    assert "Doe" not in caplog.text


def test_the_line_of_a_batch_counts_images_and_their_problems(
    client: Client, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    files = [("files", ("Doe.jpg", data, "image/jpeg")) for data in (jpeg, b"nothing", jpeg, b"no")]
    assert client.post("/predict/batch", files=files).status_code == 200
    (line,) = requests(caplog)
    assert line["images"] == 4
    assert line["image_problems"] == {"unsupported-image": 2}
    assert "problem" not in line
    assert "Doe" not in caplog.text


def test_predictions_are_logged_only_with_the_audit_setting(
    tiny: Path, client: Client, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client.post("/predict", content=jpeg, headers=JPEG)
    with running(tiny, audit=True) as audited:
        answer = audited.post("/predict", content=jpeg, headers=JPEG).json()
    plain, full = requests(caplog)
    assert "verdicts" not in plain
    assert full["verdicts"] == [
        {
            "label": answer["prediction"]["label"],
            "flag": answer["malignancy"]["flag"],
            "malignancy": answer["malignancy"]["probability"],
            "warnings": [warning["code"] for warning in answer["warnings"]],
        }
    ]


def test_an_internal_error_is_logged_with_its_traceback_in_one_field(
    client: Client, jpeg: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("service.inference.onnx_session.OnnxSession.run", broken)
    client.post("/predict", content=jpeg, headers=JPEG | {"x-request-id": "single"})
    client.post("/predict/batch", files=[("files", jpeg)], headers={"x-request-id": "batch"})
    failures = [record for record in caplog.records if getattr(record, "event", "") == "failure"]
    found = [json.loads(JsonFormatter().format(record)) for record in failures]
    assert [(line["level"], line["request_id"]) for line in found] == [
        ("error", "single"),
        ("error", "batch"),
    ]
    assert all("RuntimeError: two\nlines" in line["exception"] for line in found)
    single, batch = requests(caplog)
    assert (single["status"], single["problem"]) == (500, "internal-error")
    assert (batch["status"], batch["image_problems"]) == (500, {"internal-error": 1})
    assert batch["problem"] == "internal-error"


def test_clients_cannot_forge_lines_or_fields(server: Process, jpeg: bytes) -> None:
    before = len(server.output())
    for request in (
        b'GET /x%0a{"forged":1} HTTP/1.1\r\nHost: a\r\nX-Request-ID: a"b\\\r\nConnection: close\r\n\r\n',
        b'FORGED"METHOD /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
        b"FORGED /livez HTTP/1.1\r\nHost: a\r\nX-Request-ID: \x1b[31mred\r\nConnection: close\r\n\r\n",
        b"GET /forged\nGET /livez HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(request)
            while connection.recv(4096):
                pass
    httpx.post(server.url + "/predict?forged=1", files={"file": ('forged"\n.jpg', jpeg)}).raise_for_status()
    wait_for(lambda: '"route": "/predict"' in server.output()[before:])
    added = lines(server.output()[before:])
    assert all({"time", "level", "event"} <= set(line) for line in added)
    assert "forged" not in json.dumps(added).lower()
    methods = [line["method"] for line in added if line["event"] == "request"]
    assert methods.count("_OTHER") >= 1


def test_everything_that_the_process_logs_is_json(server: Process) -> None:
    httpx.get(server.url + "/livez").raise_for_status()
    wait_for(lambda: '"/livez"' in server.output())
    found = lines(server.output())
    assert {"uvicorn.error", "service.cli.serve"} <= {line.get("logger") for line in found}
    assert all(line["level"] in {"info", "warning"} for line in found)


def test_warnings_of_libraries_about_an_image_are_not_logged(server: Process, lesion: Image.Image) -> None:
    damaged = bytearray(encoded(lesion, "TIFF", compression="tiff_lzw"))  # libtiff complains of these
    damaged[100:200] = bytes(100)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = "Jane Doe" * 9
    cut = bytearray(encoded(lesion, "TIFF", tiffinfo=tags))
    where = cut.index(b"\x0e\x01\x02\x00")  # tag 270, text
    cut[where + 8 : where + 12] = b"\xff\xff\xff\x00"  # lies behind the end of the file: Pillow warns
    before = len(server.output())
    for number, data in enumerate((damaged, cut)):
        headers = {"content-type": "image/tiff", "x-request-id": f"odd-{number}"}
        httpx.post(server.url + "/predict", content=bytes(data), headers=headers)
    wait_for(lambda: "odd-1" in server.output())
    assert {line["event"] for line in lines(server.output()[before:])} == {"request"}


def test_python_warnings_and_uncaught_exceptions_are_logged() -> None:
    program = """
import threading, warnings
from service.observability.logs import set_up_logs
set_up_logs("json", "info")
warnings.warn("Jane Doe's file is odd")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise RuntimeError("two\\nlines")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    warned, in_thread, uncaught = lines(done.stderr)
    assert (warned["level"], warned["message"]) == ("warning", "UserWarning from <string>:5")
    assert in_thread["exception"].endswith("ZeroDivisionError: division by zero")
    assert uncaught["level"] == "critical"
    assert uncaught["exception"].endswith("RuntimeError: two\nlines")
    assert done.returncode == 1


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_an_event_is_one_line_whatever_it_contains(formatter: logging.Formatter) -> None:
    record = logging.LogRecord("service", logging.ERROR, "", 0, "said %s", (EVIL,), None)
    text = formatter.format(record)
    assert len(text.splitlines()) == 1
    assert text.isprintable()
    if isinstance(formatter, JsonFormatter):
        assert json.loads(text)["message"] == f"said {EVIL}"


def test_the_text_format_indents_tracebacks() -> None:
    try:
        raise ValueError(EVIL)
    except ValueError:
        record = logging.LogRecord("service", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    first, *rest = TextFormatter().format(record).splitlines()
    assert first.endswith("ERROR service: failed")
    assert len(rest) > 2
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


@pytest.mark.parametrize("fate", ["full", "stalled"])
def test_requests_succeed_when_the_log_cannot_be_written(
    tmp_path: Path, tiny: Path, jpeg: bytes, fate: str
) -> None:
    unread, stderr = os.pipe()
    if fate == "full":
        os.close(stderr)
        stderr = os.open("/dev/full", os.O_WRONLY)
    options = {"stdout": None, "stderr": stderr, "env": {"PYTHONUNBUFFERED": ""}}
    try:
        with process(tmp_path, tiny, options=options) as server:
            server.wait_ready()
            with httpx.Client(base_url=server.url, timeout=30) as client:
                # Some 250 bytes each: a pipe that nobody reads is full at 65,536.
                for _ in range(400):
                    client.get("/livez").raise_for_status()
                client.post("/predict", content=jpeg, headers=JPEG).raise_for_status()
            server.process.terminate()
            assert server.process.wait(60) == 0
    finally:
        os.close(stderr)
        os.close(unread)
