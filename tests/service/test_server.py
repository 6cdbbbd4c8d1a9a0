"""The process: start, requests, SIGTERM, exit."""

import contextlib
import io
import os
import platform
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from models.bundle import load_bundle
from tests.service.app_client import wait_for
from tests.service.conftest import JPEG, assert_problem
from tests.service.decoders import Decoders
from tests.service.process import ROOT, Process, process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[Process]:
    """One process for all tests that do not change it."""
    with process(tmp_path_factory.mktemp("server"), tiny) as server:
        server.wait_ready()
        yield server


def test_sigterm_under_load_loses_no_accepted_request_and_exits_0(
    tmp_path: Path, tiny: Path, jpeg: bytes
) -> None:
    outcomes: Counter[Any] = Counter()
    stop = threading.Event()
    with process(tmp_path, tiny, DRAIN_PAUSE=0.5) as server:

        def client() -> None:
            while not stop.is_set():
                try:
                    status = httpx.post(server.url + "/predict", content=jpeg, headers=JPEG).status_code
                except httpx.ConnectError:
                    outcomes["refused"] += 1  # never accepted: the client goes elsewhere
                    return
                except httpx.TransportError:
                    # The kernel queues connections that the process never sees: no server can
                    # keep it from resetting those as the listener closes.
                    outcomes["reset"] += 1
                else:
                    outcomes[status] += 1

        server.wait_ready()
        threads = [threading.Thread(target=client) for _ in range(6)]
        for thread in threads:
            thread.start()
        wait_for(lambda: outcomes[200] > 20)
        server.process.send_signal(signal.SIGTERM)
        # Readiness fails while work is still taken.
        wait_for(lambda: server.status("/readyz") != 200)
        assert server.process.wait(30) == 0, server.output()
        stop.set()
        for thread in threads:
            thread.join(20)
        output = server.output()
    answered = Counter(re.findall(r'"route": "/predict", "status": (\d+)', output))
    assert set(answered) == {"200"}, answered
    assert answered["200"] == outcomes[200], (answered, outcomes)
    assert set(outcomes) <= {200, "refused", "reset"}, outcomes
    assert outcomes["reset"] <= len(threads), outcomes
    assert "Traceback" not in output


def test_sigterm_when_idle_exits_0(tmp_path: Path, tiny: Path) -> None:
    with process(tmp_path, tiny, DRAIN_PAUSE=0) as server:
        server.wait_ready()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0, server.output()


def test_a_bundle_that_fails_verification_ends_the_process_with_the_reason(
    tmp_path: Path, tiny: Path
) -> None:
    folder = tmp_path / "altered"
    folder.mkdir()
    for file in tiny.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    model = folder / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    with process(tmp_path, folder) as server:
        assert server.process.wait(30) == 1
        assert "model.onnx: sha256 is" in server.output()
        assert "Traceback" not in server.output()


def test_a_bundle_with_another_digest_ends_the_process_naming_variable_and_digests(
    tmp_path: Path, tiny: Path
) -> None:
    wanted = "0" * 64
    with process(tmp_path, tiny, BUNDLE_DIGEST=wanted) as server:
        assert server.process.wait(30) == 1
        came = load_bundle(tiny).digest
        assert f"DERMASERVE_BUNDLE_DIGEST: expected sha256 {wanted}, got {came}" in server.output()
        assert "Traceback" not in server.output()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PORT", "eighty", "DERMASERVE_PORT: expected a valid integer"),
        ("MAX_QUEUESIZE", "3", "DERMASERVE_MAX_QUEUESIZE: there is no such setting; did you mean"),
    ],
)
def test_a_wrong_setting_ends_the_process_with_status_2_and_one_line(
    tmp_path: Path, tiny: Path, name: str, value: str, expected: str
) -> None:
    with process(tmp_path, tiny, **{name: value}) as server:
        assert server.process.wait(30) == 2
        lines = server.output().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: " + expected)


def test_a_required_gpu_that_is_missing_ends_the_process(tmp_path: Path, tiny: Path) -> None:
    with process(tmp_path, tiny, DEVICE="cuda") as server:
        wait_for(lambda: server.process.poll() is not None or server.status("/readyz") == 200, 60)
        if server.process.poll() is None:
            pytest.skip("there is a GPU here")
        assert server.process.returncode == 1
        assert "cuda is required" in server.output()


def test_a_port_in_use_ends_the_process(tmp_path: Path, tiny: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with process(tmp_path, tiny, PORT=taken.getsockname()[1]) as server:
            assert server.process.wait(30) not in (0, None)
            assert "address already in use" in server.output()


def test_uploads_over_real_sockets_are_never_written_to_a_disk(server: Process, lesion: Image.Image) -> None:
    # No file of this process may grow past 1 MB from here on: a spooled upload would be a 500.
    limit = (1_000_000, 1_000_000)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limit)
    buffer = io.BytesIO()
    lesion.resize((2000, 1500)).save(buffer, "BMP")
    assert len(buffer.getvalue()) > 8_000_000
    for options in ({"files": {"file": buffer.getvalue()}}, {"content": buffer.getvalue(), "headers": JPEG}):
        assert httpx.post(server.url + "/predict", timeout=30, **options).status_code == 200


def test_a_body_of_60_mb_gets_its_413_over_a_real_socket(server: Process) -> None:
    response = httpx.post(server.url + "/predict", content=b"\xff" * 60_000_000, headers=JPEG, timeout=30)
    assert response.status_code == 413
    assert server.status("/readyz") == 200


def test_the_event_loop_is_uvloops(server: Process) -> None:
    assert "uvloop" in Path(f"/proc/{server.process.pid}/maps").read_text()


def test_importing_the_service_loads_neither_tensorflow_nor_onnxruntime() -> None:
    code = (
        "import sys, service.__main__, service.server\n"
        "heavy = {'tensorflow', 'keras', 'onnxruntime', 'training', 'matplotlib', 'sklearn'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_slow_upload_is_cut_off_and_the_connection_closed(tmp_path: Path, tiny: Path) -> None:
    with process(tmp_path, tiny, REQUEST_TIMEOUT=0.5) as server:
        server.wait_ready()
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            head = (
                b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9\r\n\r\n"
            )
            connection.sendall(head + b"\xff\xd8")
            answer = b""
            while data := connection.recv(4096):
                answer += data
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert b"application/problem+json" in answer


def test_endless_headers_do_not_take_the_server_down(server: Process) -> None:
    response = httpx.get(server.url + "/livez", headers={"x-filler": "a" * 2_000_000})
    assert response.status_code == 431
    assert response.headers["content-type"] == "application/problem+json"
    assert server.status("/livez") == 200


def test_memory_of_large_images_is_given_back(server: Process) -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (5000, 5000), (200, 100, 50, 100)).save(buffer, "PNG", compress_level=1)
    status = Path(f"/proc/{server.process.pid}/status")
    if not status.exists() or platform.libc_ver()[0] != "glibc":
        pytest.skip("memory can be read, and given back, on Linux with glibc only")

    def resident() -> int:
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status.read_text())[0])

    before = resident()
    for _ in range(3):
        response = httpx.post(server.url + "/predict", files={"file": buffer.getvalue()}, timeout=60)
        assert response.status_code == 200
    wait_for(lambda: resident() < before + 60_000)  # one such image takes 200 MB while it is decoded


def test_an_endless_body_is_answered_without_reading_it(tmp_path: Path, tiny: Path) -> None:
    sent = 0

    def flood() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(150):
            sent += 1_000_000
            yield b"\xff" * 1_000_000

    with process(tmp_path, tiny, MAX_BODY_BYTES=1_000_000) as server:
        server.wait_ready()
        # Whether it can still read the answer is up to the client's system; the server must not read on.
        with contextlib.suppress(httpx.TransportError):
            response = httpx.post(server.url + "/predict", content=flood(), headers=JPEG, timeout=30)
            assert response.status_code == 413
        assert sent < 40_000_000  # most of it in the buffers of two sockets
        small = httpx.post(server.url + "/predict", content=b"\xff" * 3_000_000, headers=JPEG)
        assert (small.status_code, small.headers["connection"]) == (413, "close")
        assert small.json()["type"] == "urn:dermaserve:problem:body-too-large"


def test_an_early_answer_arrives_although_the_body_never_ends(server: Process) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n"
        connection.sendall(head + b"12345678")
        answer = b""
        while data := connection.recv(4096):
            answer += data
    assert answer.startswith(b"HTTP/1.1 415 ")
    assert b"connection: close" in answer.lower()


def test_debug_logs_hold_no_tags_of_images(tmp_path: Path, tiny: Path, lesion: Image.Image) -> None:
    buffer = io.BytesIO()
    lesion.save(buffer, "TIFF", tiffinfo={315: "Jane Doe"})
    with process(tmp_path, tiny, LOG_LEVEL="debug") as server:
        server.wait_ready()
        files = {"file": ("Doe.tiff", buffer.getvalue())}
        assert httpx.post(server.url + "/predict", files=files).status_code == 200
        # Written after the answer is sent.
        wait_for(lambda: '"route": "/predict", "status": 200' in server.output())
        assert "Doe" not in server.output()


def test_work_that_does_not_end_does_not_delay_the_exit(tmp_path: Path, tiny: Path, jpeg: bytes) -> None:
    with process(tmp_path, tiny, DRAIN_PAUSE=0, SHUTDOWN_GRACE=1) as server:
        server.wait_ready()

        answers: list[httpx.Response] = []

        def hang() -> None:
            answers.append(httpx.post(server.url + "/predict", content=jpeg, headers=JPEG, timeout=60))

        client = threading.Thread(target=hang)
        with Decoders(server.process.pid).stopped():
            client.start()
            wait_for(lambda: "requests_in_progress 1.0" in httpx.get(server.url + "/metrics").text)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(30) == 0, server.output()
        client.join(20)
    (answer,) = answers
    assert_problem(answer, 503, "not-ready")
    assert int(answer.headers["retry-after"]) >= 1


def test_answering_loads_neither_tensorflow_nor_keras(tiny: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from PIL import Image\n"
        "from tests.service.conftest import JPEG\n"
        "from tests.synthetic import encoded\n"
        "from tests.service.app_client import running\n"
        "with running(Path(sys.argv[1])) as client:\n"
        "    body = encoded(Image.new('RGB', (300, 300)), 'JPEG')\n"
        "    assert client.post('/predict?gradcam=true', content=body, headers=JPEG).status_code == 200\n"
        "sys.exit(', '.join({'tensorflow', 'keras', 'training', 'tf2onnx'} & set(sys.modules)) or 0)"
    )
    command = [sys.executable, "-c", code, str(tiny)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("host", "shown"), [("::1", "[::1]"), ("127.0.0.1", "127.0.0.1")])
def test_the_printed_address_can_be_opened(tmp_path: Path, host: str, shown: str) -> None:
    with process(tmp_path, tmp_path, HOST=host) as server:
        server.process.wait(30)
        assert f"Page http://{shown}:{server.port}/ " in server.output()


def test_variables_of_a_kubernetes_service_are_logged_and_ignored(tmp_path: Path, tiny: Path) -> None:
    links = {
        "DERMASERVE_OPERATIONS_PORT": "tcp://10.96.0.17:9100",
        "DERMASERVE_SERVICE_HOST": "10.96.0.17",
    }
    with process(tmp_path, tiny, options={"env": links}) as server:
        server.wait_ready()
        wait_for(lambda: f"see enableServiceLinks): {', '.join(links)}" in server.output())


@pytest.mark.parametrize("descriptors", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_standard_streams_change_neither_service_nor_exit(
    tmp_path: Path, tiny: Path, jpeg: bytes, descriptors: tuple[int, ...]
) -> None:
    closed = (
        f"import os, sys\nfor descriptor in {descriptors}: os.close(descriptor)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'service'])"
    )
    with process(tmp_path, tiny, program=closed) as server:
        server.wait_ready()
        answer = httpx.post(server.url + "/predict", content=jpeg, headers=JPEG)
        assert answer.status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0, server.output()


def test_a_closed_standard_output_is_an_error_of_predict(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "lesion.jpg").write_bytes(b"")
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -m service predict "{tmp_path}/lesion.jpg" >&-'],
        cwd=ROOT, env=os.environ | {"DERMASERVE_BUNDLE": str(tiny)}, stderr=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"standard output: cannot be written (Bad file descriptor)" in done.stderr
