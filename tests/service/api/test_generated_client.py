"""A client generated from the committed OpenAPI document, against a live service."""

import importlib
import io
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from service.admission.api_keys import line_of, new_token
from tests.service.process import ROOT, Process, process

PACKAGE = "generated_client"
TOKEN = new_token()


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The package generated with the committed configuration, importable while the tests run."""
    folder = tmp_path_factory.mktemp("generated")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"),
            *("--path", "openapi/openapi.json", "--config", "openapi/python-client.yaml"),
            *("--meta", "none", "--output-path", str(folder / PACKAGE)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def service(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("service")
    keys = folder / "keys"
    keys.write_text(line_of("clinic", TOKEN, rate=1) + "\n")
    with process(folder, tiny, API_KEYS_FILE=keys, RATE_BURST=16) as running:
        running.wait_ready()
        yield running


def _part(path: str) -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.{path}")


def _client(url: str, token: str) -> Any:
    return _part("client").AuthenticatedClient(
        base_url=url, token=token, prefix="", auth_header_name="X-API-Key", raise_on_unexpected_status=True
    )


@pytest.mark.usefixtures("generated")
def test_the_generated_client_gets_responses_of_the_documented_types(service: Process, jpeg: bytes) -> None:
    with _client(service.url, TOKEN) as client:
        _try_everything(client, jpeg)
    with _client(service.url, new_token()) as client:
        refused = _part("api.model.model").sync(client=client)
    assert isinstance(refused, _part("models").Problem)
    assert refused.status == 401


@pytest.mark.usefixtures("generated")
def test_the_generated_client_gets_retry_after(service: Process, jpeg: bytes) -> None:
    predict = _part("api.images.predict").sync_detailed
    with _client(service.url, TOKEN) as client:
        answers = (predict(client=client, body=_file(jpeg)) for _ in range(17))  # one more than the burst
        answer = next(itertools.dropwhile(lambda answer: answer.status_code == 200, answers))
    assert answer.status_code == answer.parsed.status == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 60


def _file(data: bytes) -> Any:
    return _part("types").File(io.BytesIO(data), "lesion.jpg", "image/jpeg")


def _try_everything(client: Any, jpeg: bytes) -> None:
    models = _part("models")
    card = _part("api.model.model").sync(client=client)
    assert isinstance(card, models.ModelCard)
    assert _part("api.operations.livez").sync(client=client).status == "alive"
    assert _part("api.operations.readyz").sync(client=client).model.name == card.name

    predict = _part("api.images.predict").sync
    multipart = predict(client=client, body=models.PredictFilesBody(_file(jpeg)), gradcam=True)
    raw = predict(client=client, body=_file(jpeg))
    assert isinstance(multipart, models.Prediction)
    assert multipart.probabilities.to_dict() == raw.probabilities.to_dict()
    assert set(raw.probabilities.to_dict()) == {entry.code for entry in card.classes}
    assert multipart.gradcam.label in multipart.probabilities.to_dict()
    assert raw.gradcam is None

    overlay = _part("api.images.gradcam").sync(client=client, body=_file(jpeg), gradcam_class="mel")
    assert Image.open(overlay.payload).format == "PNG"

    batch = _part("api.images.predict_batch").sync(
        client=client, body=models.PredictBatchBody([_file(jpeg), _file(b"no image")])
    )
    assert [type(result).__name__ for result in batch.results] == ["PredictionResult", "ProblemResult"]
    assert [(result.index, result.filename) for result in batch.results] == [
        (0, "lesion.jpg"),
        (1, "lesion.jpg"),
    ]
    assert batch.results[0].probabilities.to_dict() == raw.probabilities.to_dict()

    refused = predict(client=client, body=_file(b"no image"))
    assert isinstance(refused, models.Problem)
    assert refused.status == 415
    assert refused.request_id
