"""The sessions and clients of the documents run as they stand, against a live service, on drawn lesions."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.admission.api_keys import line_of, new_token
from service.api.schemas import Prediction
from service.http.problems import Problem
from tests.docs.pages import block
from tests.service.app_client import wait_for
from tests.service.process import Process, process
from tests.synthetic import draw_lesion, encoded
from tests.tiny_bundle import write_tiny_bundle

CLINIC_API = "docs/clinic-api.md"
LANGUAGES = ("sh", "python", "javascript")
CLINIC, WATCHER = new_token(), new_token()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle")).path


@pytest.fixture(scope="module")
def keyed(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A service that works on one request of a key at a time."""
    folder = tmp_path_factory.mktemp("service")
    keys = folder / "keys"
    keys.write_text(f"{line_of('clinic', CLINIC)}\n{line_of('watcher', WATCHER)}\n")
    settings = {"API_KEYS_FILE": keys, "MAX_CONCURRENT_PER_KEY": 1, "UPLOAD_GRACE": 30}
    with process(folder, bundle, **settings) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a reader has at hand: two images, and one that is none."""
    generator = np.random.default_rng(1)
    for name in ("lesion.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(encoded(draw_lesion(generator, code="mel"), "JPEG"))
    (tmp_path / "notes.jpg").write_text("no image")
    return tmp_path


def start(language: str, folder: Path, server: Process, token: str | None) -> subprocess.Popen[str]:
    """Start the client in ``language`` of ``docs/clinic-api.md``; without a token ``KEY`` is unset."""
    program = {"sh": "sh", "python": sys.executable, "javascript": "node"}[language]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: the client for it was not run")
    # A shell goes on after a command that failed, as a reader would not.
    source = ("set -e\n" if language == "sh" else "") + block(CLINIC_API, "Clients", language)
    script = folder / {"sh": "example.sh", "python": "example.py", "javascript": "example.mjs"}[language]
    script.write_text(source, encoding="utf-8")
    others = {name: value for name, value in os.environ.items() if name != "KEY"}
    return subprocess.Popen(
        [program, str(script)],
        cwd=folder,
        env={**others, "URL": server.url} | ({} if token is None else {"KEY": token}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def upload_in_work(server: Process) -> Iterator[None]:
    """The one place of the clinic's key is taken, by a body that does not come."""
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nX-API-Key: {CLINIC}\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"{head}Content-Type: image/jpeg\r\nContent-Length: 9\r\n\r\n".encode())
        again: dict[str, Any] = {
            "headers": {"X-API-Key": CLINIC, "Content-Type": "image/jpeg"},
            "content": b"x",
        }
        wait_for(lambda: httpx.post(f"{server.url}/predict", **again).status_code == 429)
        yield


def metric(server: Process, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics", headers={"X-API-Key": WATCHER}).text
    (value,) = re.findall(rf"^{re.escape(name)} (.*)$", text, re.M)
    return float(value)


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_example_gets_its_answers_and_waits_when_told_to(
    language: str, folder: Path, keyed: Process
) -> None:
    refused = 'dermaserve_rejections_total{reason="concurrency"}'
    with upload_in_work(keyed):
        before = metric(keyed, refused)
        example = start(language, folder, keyed, CLINIC)
        wait_for(lambda: metric(keyed, refused) > before or example.poll() is not None, 60)
    out, errors = example.communicate(timeout=60)
    assert example.returncode == 0, out + errors
    assert metric(keyed, refused) > before
    assert_png(folder / "overlay.png")
    if language == "sh":
        found = Prediction.model_validate_json((folder / "found.json").read_text())
        results = json.loads((folder / "several.json").read_text())["results"]
        assert found.probabilities == results[0]["probabilities"]
        assert len(results) == 2
    else:
        first, *others = out.splitlines()
        label, flag = first.split()[:2]
        assert flag in ("benign", "malignant")
        assert len(others) == 2
        assert others[0] == label


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_example_says_what_the_service_refused(language: str, folder: Path, keyed: Process) -> None:
    example = start(language, folder, keyed, new_token())
    said = "".join(example.communicate(timeout=60))
    assert example.returncode != 0
    if language == "sh":
        said = (folder / "found.json").read_text()
    assert "API key missing or wrong" in said
    assert "The key is not valid." in said


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_example_without_a_key_sends_none(language: str, folder: Path, keyed: Process) -> None:
    example = start(language, folder, keyed, None)
    said = "".join(example.communicate(timeout=60))
    assert example.returncode != 0
    if language == "sh":
        said = (folder / "found.json").read_text()
    assert "Send exactly one X-API-Key header with a key." in said


def run_session(name: str, section: str, folder: Path, server: Process) -> tuple[list[str], list[str]]:
    """The outputs of a session's commands: as the document shows them, and as they are."""
    steps = re.split(r"^\$ ", block(name, section, "console"), flags=re.M)[1:]
    real = []
    for step in steps:
        command = step.splitlines()[0].replace("http://127.0.0.1:8000", server.url)
        assert server.url in command
        done = subprocess.run(
            ["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60, check=True
        )
        real.append(done.stdout)
    return ["".join(line.strip() for line in step.splitlines()[1:]) for step in steps], real


@pytest.fixture(scope="module")
def keyless(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with process(tmp_path_factory.mktemp("keyless"), bundle) as running:
        running.wait_ready()
        yield running


def test_the_session_of_the_readme_is_as_shown(folder: Path, keyless: Process) -> None:
    (shown,), (real,) = run_session("README.md", "Ask it", folder, keyless)
    assert Prediction.model_validate_json(shown)
    assert shape(json.loads(shown)) == shape(json.loads(real))


def test_the_session_of_the_api_page_is_as_shown(folder: Path, keyless: Process) -> None:
    shown, real = run_session(CLINIC_API, "Endpoints", folder, keyless)
    assert len(shown) == 2
    assert shown[0] == real[0] == ""
    assert_png(folder / "overlay.png")
    problem, expected = Problem.model_validate_json(real[1]), Problem.model_validate_json(shown[1])
    assert problem.model_copy(update={"request_id": expected.request_id}) == expected


def assert_png(path: Path) -> None:
    with Image.open(path) as image:
        assert image.format == "PNG"


def shape(node: Any) -> Any:
    """The names of members, in order, and the types of values; of lists, which may be empty, only that."""
    if isinstance(node, dict):
        return [(key, shape(value)) for key, value in node.items()]
    return type(node)
