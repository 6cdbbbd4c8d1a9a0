"""Faults that operators meet at night: each leaves the service working, or ends it in so many words.

The heavy ones, under load, are in ``tests/long``. Slow and vanishing clients are among the hostile
ones; a full queue and abandoned work are in ``test_admission``, lack of memory and what hangs in
``test_exhaustion``, a bundle that is broken at the start in ``test_server``.
"""

import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from models.bundle import MODEL_NAME, save_bundle
from models.labels import HAM10000_LABELS
from tests.service.app_client import running, wait_for
from tests.service.blocked_inference import BlockedInference
from tests.service.conftest import JPEG, assert_problem
from tests.service.process import ROOT, free_port, process
from tests.synthetic import encoded
from tests.tiny_bundle import tiny_graph, tiny_manifest

PNG = {"content-type": "image/png"}


def copied(bundle: Path, folder: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    folder.mkdir()
    for file in bundle.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def with_fault(folder: Path, nodes: list[onnx.NodeProto], **constants: np.ndarray) -> Path:
    """Build the tiny bundle with ``nodes``, whose output ``nothing`` (zeros, [N]) is added to its score."""
    model = tiny_graph()
    graph = model.graph
    last = next(node for node in graph.node if node.output[0] == "ood_score")
    last.output[0] = "faultless"
    graph.node.extend([*nodes, helper.make_node("Add", ["faultless", "nothing"], ["ood_score"])])
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.checker.check_model(model)
    folder.mkdir()
    onnx.save(model, folder / MODEL_NAME)
    return save_bundle(folder, tiny_manifest("rgb", 224, 224, HAM10000_LABELS)).path


@pytest.fixture(scope="module")
def fails_on_white(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A look-up that fails at run time for images with a sample of 250 or more."""
    node = helper.make_node
    nodes = [
        node("ReduceMax", ["float", "image_axes"], ["brightest"], keepdims=0),
        node("Cast", ["brightest"], ["place"], to=TensorProto.INT64),
        node("Gather", ["zeros", "place"], ["nothing"]),
    ]
    return with_fault(tmp_path_factory.mktemp("white") / "b", nodes, zeros=np.zeros(250, np.float32))


def test_an_image_that_makes_the_graph_fail_fails_alone(
    fails_on_white: Path, caplog: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    dark = encoded(Image.new("RGB", (300, 300), (120, 60, 40)), "PNG")
    white = encoded(Image.new("RGB", (300, 300), "white"), "PNG")
    with running(fails_on_white, max_batch_size=4) as client:
        alone = client.post("/predict", content=dark, headers=PNG).json()["probabilities"]
        assert_problem(client.post("/predict", content=white, headers=PNG), 500, "internal-error")
        futures = [
            client.begin("POST", "/predict", content=content, headers=PNG) for content in [dark, white] * 6
        ]
        answers = [future.result(60) for future in futures]
        assert [answer.status_code for answer in answers] == [200, 500] * 6
        for answer in answers[::2]:
            assert answer.json()["probabilities"] == pytest.approx(alone, abs=1e-6)
        batch = client.post("/predict/batch", files=[("files", data) for data in (dark, white, dark)]).json()
        assert [result.get("status", 200) for result in batch["results"]] == [200, 500, 200]
        assert client.get("/readyz").status_code == 200
    assert "indices element out of data bounds" in caplog.text  # for the operator, not for the client
    assert capfd.readouterr().err == ""  # ONNX Runtime's own words would be between lines of JSON


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_deadlines_do_not_depend_on_the_system_clock(
    tiny: Path, jpeg: bytes, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, real_ns = time.time, time.time_ns
    with running(tiny, request_timeout=20) as client:
        blocked = BlockedInference(monkeypatch)
        blocked.patch()
        waiting = client.begin("POST", "/predict?gradcam=true", content=jpeg, headers=JPEG)
        assert blocked.started.wait(20)
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() + int(jump * 1e9))
        blocked.released.set()
        assert waiting.result(60).status_code == 200
        assert client.post("/predict", content=jpeg, headers=JPEG).status_code == 200
        text = client.get("/metrics").text
        sums = [float(line.split()[-1]) for line in text.splitlines() if "_seconds_sum" in line]
        assert sums
        assert all(0 <= seconds < 60 for seconds in sums), sums
    with running(tiny, request_timeout=0.5) as client:
        blocked = BlockedInference(monkeypatch)
        blocked.patch()
        late = client.post("/predict", content=jpeg, headers=JPEG)
        blocked.released.set()
        assert_problem(late, 504, "deadline-passed")


def test_clients_of_a_killed_process_notice_at_once_and_its_successor_serves(
    tmp_path: Path, tiny: Path, jpeg: bytes
) -> None:
    hanging = (
        "import sys, time\n"
        "from service.inference.onnx_session import OnnxSession\n"
        "run = OnnxSession.run\n"
        "def stuck(self, batch, *metadata):\n"
        "    if batch.any():\n"
        "        print('in the middle of a batch', flush=True)\n"
        "        time.sleep(300)\n"
        "    return run(self, batch, *metadata)\n"
        "OnnxSession.run = stuck\n"
        "from service.__main__ import main\n"
        "sys.exit(main([]))"
    )
    port, errors = free_port(), []

    def ask() -> None:
        try:
            httpx.post(f"http://127.0.0.1:{port}/predict", content=jpeg, headers=JPEG, timeout=100)
        except httpx.TransportError as error:
            errors.append(error)

    with process(tmp_path, tiny, program=hanging, port=port) as server:
        server.wait_ready()
        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        wait_for(lambda: "in the middle" in server.output())
        server.process.kill()
        for client in clients:
            client.join(20)
    assert len(errors) == 4
    assert not any(isinstance(error, httpx.TimeoutException) for error in errors)
    with process(tmp_path, tiny, port=port) as server:  # the port is free again, too
        server.wait_ready()
        assert httpx.post(server.url + "/predict", content=jpeg, headers=JPEG).status_code == 200


def _no_files() -> None:
    """Forbid this process to write to files on a disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def test_the_service_writes_nothing_to_disk_and_works_on_a_full_one(
    tmp_path: Path, tiny: Path, lesion: Image.Image, jpeg: bytes
) -> None:
    """No file may grow, there is no temporary folder, and the disk of the log is full."""
    large = encoded(lesion.resize((1600, 1200)), "BMP")  # 5.8 MB: form parsers spool such parts
    nowhere = {"TMPDIR": "/proc", "HOME": "/proc", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with Path("/dev/full").open("w") as full:
        options = {"stdout": full, "stderr": full, "cwd": "/proc", "env": nowhere, "preexec_fn": _no_files}
        with process(tmp_path, tiny, options=options) as server:
            server.wait_ready()
            sent: list[tuple[str, dict[str, Any]]] = [
                ("/predict", {"content": jpeg, "headers": JPEG}),
                ("/predict?gradcam=true", {"files": {"file": large}}),
                ("/predict/batch", {"files": [("files", large), ("files", jpeg), ("files", b"no image")]}),
                ("/gradcam", {"content": large, "headers": JPEG}),
            ]
            for path, body in sent * 2:
                response = httpx.post(server.url + path, timeout=60, **body)
                assert response.status_code == 200, response.text
            server.process.send_signal(signal.SIGHUP)
            assert httpx.post(server.url + "/predict", content=b"x", headers=JPEG).status_code == 415
            assert server.status("/readyz") == 200
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(30) == 0


def test_a_bundle_damaged_on_disk_is_served_from_memory_and_refused_on_reload(
    tmp_path: Path, tiny: Path, jpeg: bytes
) -> None:
    bundle = copied(tiny, tmp_path / "bundle")
    with process(tmp_path, bundle) as server:

        def answer() -> dict[str, float]:
            body = httpx.post(server.url + "/predict", content=jpeg, headers=JPEG).json()
            found: dict[str, float] = body["probabilities"]
            return found

        server.wait_ready()
        before = answer()
        model = bundle / MODEL_NAME
        model.write_bytes(model.read_bytes()[:-100])  # in place: not a mapping may depend on it
        assert answer() == before
        server.process.send_signal(signal.SIGHUP)
        refused = 'dermaserve_reloads_total{outcome="refused"} 1.0'
        wait_for(lambda: refused in httpx.get(server.url + "/metrics").text)
        assert answer() == before
        assert server.status("/readyz") == 200
