"""The process: reloads under load and by SIGHUP, and SIGTERM at awkward moments."""

import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.admission.api_keys import line_of, new_token
from tests.service.app_client import running, wait_for
from tests.service.bundles import NEW, OLD, Bundles
from tests.service.conftest import JPEG
from tests.service.process import process

TOKEN = new_token()
KEY = {"x-api-key": TOKEN}

SLOW_LOAD = (
    "import sys, time, service.inference.model_manager as r\n"
    "load, loads = r.load, []\n"
    "def slow(*args):\n"
    "    print('loading', flush=True)\n"
    "    loads.append(1)\n"
    "    time.sleep({seconds} if len(loads) >= {first} else 0)\n"
    "    return load(*args)\n"
    "r.load = slow\n"
    "from service.__main__ import main\n"
    "sys.exit(main([]))"
)
"""A service whose model loads take ``seconds`` longer, from load number ``first`` on."""


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    return Bundles(tmp_path)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(line_of("operator", TOKEN, admin=True) + "\n")
    return file


def version(url: str) -> str:
    found: str = httpx.get(url + "/readyz").json()["model"]["version"]
    return found


def expected(bundle: Path, jpeg: bytes) -> dict[str, float]:
    with running(bundle) as door:
        found: dict[str, float] = door.post("/predict", content=jpeg, headers=JPEG).json()["probabilities"]
    return found


def test_five_reloads_under_load_fail_no_request_and_mix_no_models(
    tmp_path: Path, bundles: Bundles, keys: Path, jpeg: bytes
) -> None:
    right = {OLD: expected(bundles.folder / "old", jpeg), NEW: expected(bundles.folder / "new", jpeg)}
    answers: list[tuple[float, httpx.Response]] = []  # with the time at which it was asked for
    stop = threading.Event()
    with process(tmp_path, bundles.current, API_KEYS_FILE=keys) as server:

        def client() -> None:
            with httpx.Client(base_url=server.url, headers=JPEG | KEY, timeout=30) as http:
                while not stop.is_set():
                    answers.append((time.monotonic(), http.post("/predict", content=jpeg)))

        def wait_for_answers(count: int) -> None:
            enough = len(answers) + count
            wait_for(lambda: len(answers) >= enough)

        server.wait_ready()
        threads = [threading.Thread(target=client) for _ in range(6)]
        for thread in threads:
            thread.start()
        try:
            for name in ("new", "old", "new", "old", "new"):
                wait_for_answers(15)
                bundles.switch(name)
                response = httpx.post(server.url + "/admin/reload", headers=KEY, timeout=30)
                assert response.status_code == 200, response.text
            reloaded = time.monotonic()
            wait_for_answers(len(threads) + 15)  # one of each client may have been on its way
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        metrics = httpx.get(server.url + "/metrics", headers=KEY).text
    assert {response.status_code for _, response in answers} == {200}
    bodies: list[tuple[float, dict[str, Any]]] = [(asked, response.json()) for asked, response in answers]
    for _, body in bodies:
        assert body["probabilities"] == pytest.approx(right[body["model"]["version"]], abs=1e-5)
    assert {body["model"]["version"] for _, body in bodies} == {OLD, NEW}
    assert {body["model"]["version"] for asked, body in bodies if asked >= reloaded} == {NEW}
    assert 'dermaserve_reloads_total{outcome="loaded"} 5.0' in metrics


def test_sighup_reloads_bundle_and_keys_and_keeps_both_if_the_bundle_is_bad(
    tmp_path: Path, bundles: Bundles, keys: Path
) -> None:
    other = new_token()
    with process(tmp_path, bundles.current, API_KEYS_FILE=keys) as server:
        server.wait_ready()
        bundles.switch("new")
        keys.write_text(line_of("operator", TOKEN, admin=True) + "\n" + line_of("clinic", other) + "\n")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: version(server.url) == NEW)
        assert httpx.get(server.url + "/model", headers={"x-api-key": other}).status_code == 200
        (bundles.folder / "old" / "model.onnx").write_bytes(b"")
        bundles.switch("old")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "The bundle is refused" in server.output())
        assert version(server.url) == NEW
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0, server.output()
        output = server.output()
    assert output.count("The bundle is refused") == 1
    assert "Traceback" not in output


def test_sighup_while_starting_and_during_a_reload_is_not_lost(tmp_path: Path, bundles: Bundles) -> None:
    program = SLOW_LOAD.format(seconds=0.5, first=1)
    with process(tmp_path, bundles.current, program=program) as server:
        wait_for(lambda: "loading" in server.output())
        bundles.switch("new")  # too late for the load that has begun
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: server.output().count("loading") == 2)
        bundles.switch("old")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(re.findall(r"Ready after", server.output())) == 3)
        assert version(server.url) == OLD


@pytest.mark.parametrize("first", [1, 2], ids=["while starting", "during a reload"])
def test_sigterm_while_a_model_is_loaded_exits_0(tmp_path: Path, bundles: Bundles, first: int) -> None:
    program = SLOW_LOAD.format(seconds=1, first=first)
    with process(tmp_path, bundles.current, program=program) as server:
        if first == 2:
            server.wait_ready()
            bundles.switch("new")
            server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: server.output().count("loading") == first)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0, server.output()
        output = server.output()
    assert output.count("Ready after") == (1 if first == 2 else 0)
    assert "Traceback" not in output


def test_a_second_sigterm_and_sighup_do_not_affect_a_drain(
    tmp_path: Path, bundles: Bundles, jpeg: bytes
) -> None:
    with process(tmp_path, bundles.current, DRAIN_PAUSE=1.5) as server:
        server.wait_ready()
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.status("/readyz") == 503)
        bundles.switch("new")
        server.process.send_signal(signal.SIGHUP)
        server.process.send_signal(signal.SIGTERM)
        answer = httpx.post(server.url + "/predict", content=jpeg, headers=JPEG)
        assert (answer.status_code, answer.json()["model"]["version"]) == (200, OLD)
        assert server.process.wait(30) == 0, server.output()
        output = server.output()
    assert "SIGHUP does not reload the bundle: The server is shutting down." in output
    assert output.count("Ready after") == 1
    assert "Traceback" not in output
