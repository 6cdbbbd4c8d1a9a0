"""Real clients of the Open Inference Protocol, each in its own environment, against the running service.

``make client-test`` runs it. It starts the service, asks ``POST /predict`` what is right, and runs the tests
in ``tests/clients/with_*.py`` by the Python of each environment. They read the facts from a file. KServe's
SDK also reads the manifests for KServe.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.admission.api_keys import line_of, new_token
from tests.deploy.kubernetes import kubectl, render
from tests.service.process import ROOT, free_port, process
from tests.synthetic import draw_lesion, encoded
from tests.tiny_bundle import write_tiny_bundle

HERE = Path(__file__).parent
ENVIRONMENTS = {"with_triton.py": "kserve", "with_kserve.py": "kserve", "with_mlserver.py": "mlserver"}
"""The environment of each file. Each has its own process, because their messages have the same names."""

MAX_BYTES = 2_000_000

HOLDING = """
import sys, time
from pathlib import Path
from service.inference.onnx_session import OnnxSession
from service.__main__ import main
real = OnnxSession.run
def run(session, batch, *metadata):
    while Path(HOLD).exists():
        time.sleep(0.02)
    return real(session, batch, *metadata)
OnnxSession.run = run
sys.exit(main(["serve"]))
"""
"""The service. Inference waits while the file HOLD exists."""


def drawn(size: tuple[int, int]) -> list[Image.Image]:
    """Three images of one size that the model reads differently."""
    lesions = [draw_lesion(np.random.default_rng(seed), code=code) for seed, code in ((1, "mel"), (2, "nv"))]
    return [*(lesion.resize(size) for lesion in lesions), Image.new("RGB", size, (200, 40, 90))]


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start the service. Yield a file with its address, its key, the images and the right answers."""
    folder = tmp_path_factory.mktemp("clients")
    bundle = write_tiny_bundle(folder / "bundle")
    key, limited = new_token(), new_token()
    (folder / "keys").write_text(f"{line_of('clinic', key)}\n{line_of('limited', limited, rate=1)}\n")
    images = drawn((300, 200))
    files = [encoded(image, "PNG") for image in images]
    hold = folder / "hold"
    program = HOLDING.replace("HOLD", repr(str(hold)))
    settings: dict[str, Any] = {"API_KEYS_FILE": folder / "keys", "MAX_QUEUE_SIZE": 1, "RATE_BURST": 1}
    settings |= {"MAX_BODY_BYTES": MAX_BYTES, "GRPC_PORT": (grpc_port := free_port())}
    with process(folder, bundle.path, program=program, **settings) as server:
        server.wait_ready()
        predictions = [predicted(server.url, key, file) for file in files]
        assert len({prediction["prediction"]["label"] for prediction in predictions}) > 1
        damaged = encoded(images[0], "JPEG", quality=90)[:3000]
        for name, data in (("damaged", damaged), *((str(at), file) for at, file in enumerate(files))):
            (folder / name).write_bytes(data)
        np.save(folder / "pixels.npy", np.stack([np.asarray(image) for image in images]))
        found = {
            "port": server.port,
            "grpc_port": grpc_port,
            "key": key,
            "limited_key": limited,
            "model": [bundle.manifest.name, bundle.manifest.version],
            "max_bytes": MAX_BYTES,
            "hold": str(hold),
            "folder": str(folder),
            "predictions": predictions,
        }
        (folder / "facts.json").write_text(json.dumps(found))
        yield folder / "facts.json"
        assert "Traceback" not in server.output()


def predicted(url: str, key: str, file: bytes) -> dict[str, Any]:
    headers = {"x-api-key": key, "content-type": "image/png"}
    answer: dict[str, Any] = httpx.post(f"{url}/predict", content=file, headers=headers).json()
    return answer


@pytest.mark.parametrize("file", ENVIRONMENTS)
def test_clients_get_what_predict_says(file: str, facts: Path) -> None:
    run_tests(ENVIRONMENTS[file], file, facts)


@kubectl
def test_the_manifests_for_kserve_match_its_sdk(tmp_path: Path) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps({"manifests": render("kserve")}))
    run_tests("kserve", "with_kserve_models.py", facts)


def run_tests(name: str, file: str, facts: Path) -> None:
    """Run the tests of a file by the Python of an environment."""
    python = os.environ.get(f"CLIENTS_{name.upper()}", str(ROOT / f".venv-clients-{name}" / "bin" / "python"))
    # Without the project's own configuration and fixtures, which need the project's environment.
    options = [
        "-m",
        "pytest",
        "-q",
        "--noconftest",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        str(HERE / file),
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DERMASERVE_", "PYTHON"))}
    environment |= {"FACTS": str(facts), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, *options], env=environment, cwd=facts.parent, capture_output=True, text=True, timeout=400
    )
    print(done.stdout[-6000:], done.stderr[-2000:])
    assert done.returncode == 0
