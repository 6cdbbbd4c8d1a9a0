"""Fixtures: a running service with the tiny bundle, and images."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.service.app_client import Client, running
from tests.service.blocked_inference import BlockedInference
from tests.synthetic import draw_lesion, encoded
from tests.tiny_bundle import write_tiny_bundle

JPEG = {"content-type": "image/jpeg"}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the developer's settings from the environment."""
    for name in [n for n in os.environ if n.startswith("DERMASERVE_") and n != "DERMASERVE_HAM10000"]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle")).path


@pytest.fixture(scope="session")
def lesion() -> Image.Image:
    return draw_lesion(np.random.default_rng(1), code="mel")


@pytest.fixture(scope="session")
def jpeg(lesion: Image.Image) -> bytes:
    return encoded(lesion, "JPEG", quality=90)


@pytest.fixture(scope="module")
def client(tiny: Path) -> Iterator[Client]:
    with running(tiny) as client:
        yield client


@pytest.fixture
def next_is_answered(client: Client, jpeg: bytes) -> Iterator[None]:
    """For tests of bad requests: check afterwards that the service works and holds nothing."""
    yield
    assert client.post("/predict", content=jpeg, headers=JPEG).status_code == 200
    assert client.runtime.admission.requests == 0
    assert client.runtime.admission.body_bytes == 0


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockedInference]:
    blocked = BlockedInference(monkeypatch)
    yield blocked
    blocked.released.set()


def assert_problem(response: Any, status: int, kind: str) -> None:
    """Check the members of a problem document, and that it leaks no internals."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) - {"errors"} == {"type", "title", "status", "detail", "request_id"}
    assert "errors" not in body or kind == "invalid-request"
    assert body["type"] == f"urn:dermaserve:problem:{kind}"
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    detail = body["detail"]
    for ours in ("multipart/form-data", "application/dicom", "image/", "/predict/batch", "/docs"):
        detail = detail.replace(ours, "")
    for leak in ("/", "Traceback", "Error", "PIL", "onnx"):
        assert leak not in detail, body
