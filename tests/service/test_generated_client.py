"""A client generated from the committed OpenAPI document talks to the live service."""

import importlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from tests.service.process import ROOT, Process, process

PACKAGE = "generated_client"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The package, generated with the committed configuration and importable while the tests run."""
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
    with process(tmp_path_factory.mktemp("service"), tiny) as running:
        running.wait_ready()
        yield running


def _part(path: str) -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.{path}")


@pytest.mark.usefixtures("generated")
def test_its_calls_are_answered_as_the_document_says(service: Process, jpeg: bytes) -> None:
    types, models = _part("types"), _part("models")
    client = _part("client").Client(base_url=service.url, raise_on_unexpected_status=True)

    def file(data: bytes) -> object:
        return types.File(io.BytesIO(data), "lesion.jpg", "image/jpeg")

    card = _part("api.model.model").sync(client=client)
    assert isinstance(card, models.ModelCard)
    assert _part("api.operations.livez").sync(client=client).status == "alive"
    assert _part("api.operations.readyz").sync(client=client).model.name == card.name

    predict = _part("api.images.predict").sync
    multipart = predict(client=client, body=models.PredictFilesBody(file(jpeg)), gradcam=True)
    raw = predict(client=client, body=file(jpeg))
    assert isinstance(multipart, models.Prediction)
    assert multipart.probabilities.to_dict() == raw.probabilities.to_dict()
    assert set(raw.probabilities.to_dict()) == {entry.code for entry in card.classes}
    assert multipart.gradcam.label == multipart.prediction.label
    assert raw.gradcam is None

    overlay = _part("api.images.gradcam").sync(client=client, body=file(jpeg), gradcam_class="mel")
    assert Image.open(overlay.payload).format == "PNG"

    batch = _part("api.images.predict_batch").sync(
        client=client, body=models.PredictBatchBody([file(jpeg), file(b"no image")])
    )
    assert [type(result).__name__ for result in batch.results] == ["Prediction", "Problem"]
    assert batch.results[0].probabilities.to_dict() == raw.probabilities.to_dict()

    refused = predict(client=client, body=file(b"no image"))
    assert isinstance(refused, models.Problem)
    assert refused.status == 415
    assert refused.request_id
