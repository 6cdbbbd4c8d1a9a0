"""The peers without their environments."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from bench.peers import PEERS, ROOT, Options, Peer
from bench.peers.common import Classifier
from models.preprocess import decode
from tests.synthetic import draw_lesion, encoded
from tests.tiny_bundle import write_tiny_bundle
from training.export.runtime import run_graph

every_peer = pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)


@every_peer
def test_a_peer_is_a_program_run_by_its_own_environment(peer: Peer) -> None:
    assert peer.python == ROOT / f".venv-bench-{peer.name}" / "bin" / "python"
    assert importlib.util.find_spec(peer.module) is not None


@every_peer
def test_a_peer_and_the_processes_it_starts_read_its_options(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in peer.variables(model=Path("a/b.onnx"), port=1234, cores=2).items():
        monkeypatch.setenv(name, value)
    assert Options.read() == Options("a/b.onnx", 1234, *peer.shape(2))


def lock(peer: Peer) -> str:
    return (ROOT / "bench" / "peers" / "requirements" / f"{peer.name}.txt").read_text(encoding="utf-8")


@every_peer
def test_the_lock_of_a_peer_holds_hashed_versions_and_names_no_host(peer: Peer) -> None:
    text = lock(peer)
    packages = re.findall(r"^\S.*(?:\n .*)*", text, re.MULTILINE)
    assert packages
    for package in packages:
        assert re.match(r"[a-z0-9.-]+(\[[a-z0-9,-]+\])?==\S+", package), package
        assert "--hash=sha256:" in package
    assert "://" not in text
    assert not re.search(r"index-url|find-links", text)


@every_peer
def test_a_peer_has_the_versions_of_this_service_that_decide_the_cost_of_an_image(peer: Peer) -> None:
    ours = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
    theirs = lock(peer)
    for package in ("onnxruntime", "pillow", "numpy") if peer.onnx else ("tensorflow", "keras", "pillow"):
        pattern = rf"^{package}==[^\\\n]*"
        assert re.findall(pattern, theirs, re.MULTILINE) == re.findall(pattern, ours, re.MULTILINE)


@pytest.mark.parametrize("metadata", [False, True])
def test_a_peer_gives_the_probabilities_of_the_image_alone(tmp_path: Path, metadata: bool) -> None:
    bundle = write_tiny_bundle(tmp_path, metadata=metadata)
    data = encoded(draw_lesion(np.random.default_rng(3)), "JPEG")
    found = Classifier(Options(str(bundle.model_path), port=0, workers=1, threads=1))(data)
    expected = run_graph(bundle.model_path, decode(data).pixels[np.newaxis], batch_size=1)["probabilities"][0]
    assert list(found["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.parametrize("cores", [1, 2, 16])
def test_a_peer_uses_each_core_once_but_for_the_one_that_gains_by_one_more(cores: int) -> None:
    for peer in PEERS:
        workers, threads = peer.shape(cores)
        assert workers * threads == cores + (peer.name == "bentoml"), peer.name
