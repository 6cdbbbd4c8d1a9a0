"""A reload replaces the model while requests run, and refuses a bad bundle."""

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from models.bundle import MANIFEST_NAME, MODEL_NAME, load_bundle, save_bundle
from models.labels import HAM10000_LABELS
from service.admission.api_keys import line_of, new_token
from service.errors import BundleRefused, DeviceError, NotReady
from service.inference.onnx_session import OnnxSession
from service.lifecycle import Runtime
from tests.service.api.test_operations import samples
from tests.service.app_client import Client, running, settings_for, wait_for
from tests.service.bundles import NEW, OLD, Bundles
from tests.service.conftest import JPEG, assert_problem
from tests.tiny_bundle import tiny_graph

TOKEN = new_token()
KEY = {"x-api-key": TOKEN}


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """Disable the garbage collector: the model must be freed by reference counts alone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    return Bundles(tmp_path)


@pytest.fixture
def door(bundles: Bundles, tmp_path: Path) -> Iterator[Client]:
    keys = tmp_path / "keys"
    keys.write_text(line_of("operator", TOKEN, admin=True))
    with running(bundles.current, api_keys_file=keys) as door:
        yield door


def predict(door: Client, jpeg: bytes) -> dict[str, Any]:
    response = door.post("/predict", content=jpeg, headers=JPEG | KEY)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_a_reload_serves_what_the_folder_holds_now(door: Client, bundles: Bundles, jpeg: bytes) -> None:
    before = predict(door, jpeg)
    bundles.switch("new")
    response = door.post("/admin/reload", headers=KEY)
    assert response.status_code == 200
    assert response.json() == {
        "old": {"name": "tiny-test-bundle", "version": OLD},
        "new": {"name": "tiny-test-bundle", "version": NEW},
    }
    after = predict(door, jpeg)
    assert (before["model"]["version"], after["model"]["version"]) == (OLD, NEW)
    assert before["probabilities"] != after["probabilities"]
    assert door.get("/readyz").json()["model"]["version"] == NEW
    assert door.get("/model", headers=KEY).json()["version"] == NEW
    assert door.runtime.classifier.identity.digest == load_bundle(bundles.current).digest
    metrics = samples(door, KEY)
    info = {name for name in metrics if name.startswith("dermaserve_model_info")}
    assert info == {
        f"dermaserve_model_info name=tiny-test-bundle provider=CPUExecutionProvider version={NEW}"
    }
    assert metrics["dermaserve_reloads_total outcome=loaded"] == 1
    assert metrics["dermaserve_reloads_total outcome=refused"] == 0


@pytest.mark.usefixtures("no_garbage_collection")
def test_requests_finish_with_their_model_and_then_it_is_freed(
    door: Client, bundles: Bundles, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(door, jpeg)
    first = door.runtime.classifier
    classifier = weakref.ref(first)
    predictor = weakref.ref(first._batcher._run.args[0])  # type: ignore[attr-defined]  # of a partial
    session = weakref.ref(predictor()._session)  # type: ignore[union-attr]  # it is alive here
    del first
    running_old, go_on = threading.Event(), threading.Event()
    run = OnnxSession.run

    def held(self: OnnxSession, *inputs: Any) -> Any:
        if self is predictor():
            running_old.set()
            assert go_on.wait(20)
        return run(self, *inputs)

    monkeypatch.setattr(OnnxSession, "run", held)
    waiting = door.begin("POST", "/predict", content=jpeg, headers=JPEG | KEY)
    assert running_old.wait(20)
    bundles.switch("new")
    assert door.post("/admin/reload", headers=KEY).status_code == 200
    assert predict(door, jpeg)["model"]["version"] == NEW  # while the old one is at work
    assert classifier() is not None
    assert not waiting.done()
    go_on.set()
    answer = waiting.result(20)
    assert (answer.status_code, answer.json()["model"]["version"]) == (200, OLD)
    del answer, waiting
    wait_for(lambda: classifier() is None and predictor() is None and session() is None)


def test_a_bundle_already_being_served_is_verified_but_not_loaded_again(
    door: Client, bundles: Bundles
) -> None:
    served = door.runtime.classifier
    assert door.post("/admin/reload", headers=KEY).json()["new"]["version"] == OLD
    assert door.runtime.classifier is served
    (bundles.current / MODEL_NAME).write_bytes(b"altered")
    assert door.post("/admin/reload", headers=KEY).status_code == 409


def corrupt(folder: Path) -> None:
    model = folder / MODEL_NAME
    model.write_bytes(model.read_bytes()[:-1] + b"\0")


def no_graph(folder: Path) -> None:
    (folder / MODEL_NAME).write_bytes(b"not a graph")
    save_bundle(folder, load_unverified(folder))


def wrong_outputs(folder: Path) -> None:
    onnx.save(tiny_graph(classes=2), folder / MODEL_NAME)
    save_bundle(folder, load_unverified(folder))


def load_unverified(folder: Path) -> Any:
    return load_bundle(folder.parent / "old").manifest


def edited(old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        manifest = folder / MANIFEST_NAME
        text = manifest.read_text()
        assert old in text
        manifest.write_text(text.replace(old, new))

    return edit


@pytest.mark.parametrize(
    ("spoil", "detail"),
    [
        (lambda folder: (folder / MANIFEST_NAME).unlink(), "manifest.json: cannot be read"),
        (lambda folder: (folder / MODEL_NAME).unlink(), "model.onnx: cannot be read"),
        (edited('"threshold": 0.5', '"threshold": 7'), "manifest.json: operating_point.threshold: does not"),
        (edited('"schema_version": 2', '"schema_version": 3'), "manifest.json: schema_version: expected 2"),
        (edited("{", ""), "manifest.json: manifest: does not match schema 2"),
        (corrupt, "model.onnx: sha256 is "),
        (no_graph, "model.onnx: cannot be loaded as a graph"),
        (wrong_outputs, "model.onnx: probabilities: expected shape"),
    ],
)  # fmt: skip
def test_a_bad_bundle_is_refused_with_its_fault_and_the_old_one_stays(
    door: Client,
    bundles: Bundles,
    jpeg: bytes,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path], None],
    detail: str,
) -> None:
    before = predict(door, jpeg)
    spoil(bundles.folder / "new")
    bundles.switch("new")
    with caplog.at_level(logging.ERROR):
        response = door.post("/admin/reload", headers=KEY)
    assert response.status_code == 409
    assert response.json()["type"] == "urn:dermaserve:problem:bundle-refused"
    assert response.json()["detail"].startswith("The old model stays in service. " + detail)
    for leak in (str(bundles.folder), "Traceback", "Error", "ONNX Runtime", "Input should"):
        assert leak not in response.text
    (record,) = [r for r in caplog.records if r.name.startswith("service")]
    assert "The bundle is refused, and the old model stays in service" in record.getMessage()
    assert predict(door, jpeg)["probabilities"] == before["probabilities"]
    assert door.get("/readyz").status_code == 200
    assert samples(door, KEY)["dermaserve_reloads_total outcome=refused"] == 1
    bundles.switch("old")
    assert door.post("/admin/reload", headers=KEY).status_code == 200


def test_a_reload_takes_only_the_bundle_whose_digest_is_demanded(bundles: Bundles, jpeg: bytes) -> None:
    old, new = (load_bundle(bundles.folder / name).digest for name in ("old", "new"))
    with running(bundles.current, bundle_digest=old) as door:
        bundles.switch("new")
        with pytest.raises(BundleRefused, match=f"BUNDLE_DIGEST: expected sha256 {old}, got {new}"):
            door.call(door.runtime.reload())
        answer = door.post("/predict", content=jpeg, headers=JPEG)
        assert answer.json()["model"]["version"] == OLD
        bundles.switch("old")
        door.call(door.runtime.reload())


@pytest.mark.parametrize(
    ("failure", "detail"),
    [
        (DeviceError("cuda"), "The GPU that the settings require does not work."),
        (MemoryError(), "There is not enough memory to load a second model."),
        (
            RuntimeError("the secret is in /etc/secret"),
            "The bundle could not be loaded. The log has the reason.",
        ),
    ],
)
def test_other_errors_while_loading_are_refusals_too(
    door: Client,
    bundles: Bundles,
    jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    detail: str,
) -> None:
    def fail(*_: object) -> None:
        raise failure

    bundles.switch("new")
    with monkeypatch.context() as patch:
        patch.setattr(OnnxSession, "warm_up", fail)
        response = door.post("/admin/reload", headers=KEY)
    assert_problem(response, 409, "bundle-refused")
    assert response.json()["detail"] == "The old model stays in service. " + detail
    assert predict(door, jpeg)["model"]["version"] == OLD
    assert door.post("/admin/reload", headers=KEY).status_code == 200
    assert predict(door, jpeg)["model"]["version"] == NEW


@pytest.mark.usefixtures("no_garbage_collection")
def test_a_refused_model_is_freed(door: Client, bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[weakref.ref[OnnxSession]] = []

    def fail(predictor: OnnxSession, _: int) -> None:
        refused.append(weakref.ref(predictor))
        raise RuntimeError("it cannot be run")

    monkeypatch.setattr(OnnxSession, "warm_up", fail)
    bundles.switch("new")
    logging.disable(logging.ERROR)  # pytest keeps what is logged, with its traceback
    try:
        assert_problem(door.post("/admin/reload", headers=KEY), 409, "bundle-refused")
    finally:
        logging.disable(logging.NOTSET)
    wait_for(lambda: [predictor() for predictor in refused] == [None])


def test_one_reload_runs_at_a_time_and_none_while_starting_or_draining(
    bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading, go_on = threading.Event(), threading.Event()
    warm_up = OnnxSession.warm_up

    def held(self: OnnxSession, size: int) -> None:
        loading.set()
        assert go_on.wait(20)
        warm_up(self, size)

    keys = tmp_path / "keys"
    keys.write_text(line_of("operator", TOKEN, admin=True))
    monkeypatch.setattr(OnnxSession, "warm_up", held)
    door = Client(Runtime(settings_for(bundles.current, api_keys_file=keys)))
    door.start()
    try:
        assert loading.wait(20)
        assert_problem(door.post("/admin/reload", headers=KEY), 503, "not-ready")
        go_on.set()
        wait_for(lambda: door.runtime.ready)
        loading.clear()
        go_on.clear()
        bundles.switch("new")
        first = door.begin("POST", "/admin/reload", headers=KEY)
        assert loading.wait(20)
        assert_problem(door.post("/admin/reload", headers=KEY), 409, "reload-running")
        door.runtime.drain()  # what is loaded now comes too late
        go_on.set()
        assert_problem(first.result(20), 503, "not-ready")
        assert door.runtime.classifier.identity.version == OLD
        assert_problem(door.post("/admin/reload", headers=KEY), 503, "not-ready")
        assert samples(door, KEY)["dermaserve_reloads_total outcome=refused"] == 0
    finally:
        go_on.set()
        door.stop()


def test_a_reload_requires_a_key_with_the_role_admin(bundles: Bundles, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(line_of("clinic", TOKEN))
    with running(bundles.current, api_keys_file=keys) as door:
        assert_problem(door.post("/admin/reload"), 401, "unauthorized")
        assert_problem(door.post("/admin/reload", headers=KEY), 403, "forbidden")
    with running(bundles.current) as door:
        assert_problem(door.post("/admin/reload"), 403, "forbidden")


def test_metrics_of_the_old_classes_disappear_with_the_old_model(tmp_path: Path, jpeg: bytes) -> None:
    bundles = Bundles(tmp_path, classes=HAM10000_LABELS[3:5])
    with running(bundles.current) as door:
        assert door.post("/predict", content=jpeg, headers=JPEG).status_code == 200
        assert samples(door)["dermaserve_drift_images"] == 1
        bundles.switch("new")
        door.call(door.runtime.reload())
        metrics = samples(door)
        shares = {name.partition("=")[2] for name in metrics if name.startswith("dermaserve_reference_share")}
        assert shares == {label.code for label in HAM10000_LABELS[3:5]}
        assert metrics["dermaserve_drift_images"] == 0


def test_a_reload_in_process_raises_the_reason_of_its_failure(door: Client, bundles: Bundles) -> None:
    (bundles.folder / "new" / MODEL_NAME).unlink()
    bundles.switch("new")
    with pytest.raises(BundleRefused, match=r"model\.onnx: cannot be read"):
        door.call(door.runtime.reload())
    door.runtime.drain()
    with pytest.raises(NotReady, match="shutting down"):
        door.call(door.runtime.reload())
