"""The peers without their environments; ``python -m bench.peers`` runs them for real."""

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.images import drawn_jpeg
from bench.peers import PEERS, ROOT, Peer, Shape, one_more, one_per_core, one_wide
from bench.peers.__main__ import check
from bench.peers.common import Options
from models.bundle import MODEL_NAME
from tests.tiny_bundle import write_tiny_bundle

SHAPE = Shape(workers=2, threads=1)

every_peer = pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)


def command(peer: Peer) -> list[str]:
    model = Path("model.onnx")
    return peer.command(
        peer.python, model=model, port=1234, shape=SHAPE, max_batch_size=8, batch_timeout=0.005
    )


@every_peer
def test_a_peer_is_a_program_run_by_its_own_environment(peer: Peer) -> None:
    python, flag, module, *_ = command(peer)
    assert (python, flag) == (str(ROOT / f".venv-bench-{peer.name}" / "bin" / "python"), "-m")
    assert importlib.util.find_spec(module) is not None


@every_peer
def test_a_peer_is_told_all_that_is_equal_for_all(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", command(peer)[2:])
    told = Options(Path("model.onnx"), port=1234, workers=2, threads=1, max_batch_size=8, batch_timeout=0.005)
    assert Options.from_arguments() == told


def test_options_reach_the_processes_that_a_server_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DERMASERVE_BENCH_PEER", "")
    told = Options(Path("a/b.onnx"), port=1, workers=2, threads=3, max_batch_size=4, batch_timeout=0.5)
    told.to_environment()
    assert Options.from_environment() == told


@every_peer
def test_the_lock_of_a_peer_holds_hashed_versions_and_names_no_host(peer: Peer) -> None:
    text = peer.lock.read_text(encoding="utf-8")
    packages = re.findall(r"^\S.*(?:\n .*)*", text, re.MULTILINE)
    assert packages
    for package in packages:
        assert re.match(r"[a-z0-9.-]+(\[[a-z0-9,-]+\])?==\S+", package), package
        assert "--hash=sha256:" in package
    assert "://" not in text
    assert not re.search(r"index-url|find-links", text)


@every_peer
def test_what_decides_the_cost_of_an_image_is_of_the_version_that_serves(peer: Peer) -> None:
    ours = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
    theirs = peer.lock.read_text(encoding="utf-8")
    for package in ("onnxruntime", "pillow", "numpy") if peer.onnx else ("tensorflow", "keras", "pillow"):
        pattern = rf"^{package}==[^\\\n]*"
        assert re.findall(pattern, theirs, re.MULTILINE) == re.findall(pattern, ours, re.MULTILINE)


@pytest.mark.parametrize("cores", [1, 2, 16])
def test_a_shape_uses_each_core_once_but_for_the_one_that_gains_by_one_more(cores: int) -> None:
    for peer in PEERS:
        shape = peer.best(cores)
        assert shape.workers * shape.threads == cores + (peer.name == "bentoml"), peer.name
    assert one_more(cores) == Shape(workers=cores + 1, threads=1)
    assert one_wide(cores) == Shape(workers=1, threads=cores)
    assert one_per_core(cores) == Shape(workers=cores, threads=1)


class Stranger(Peer):
    """Gives all classes the same probability."""

    module = "tests.bench.fake_peer"
    python = Path(sys.executable)


def test_the_check_tells_a_peer_that_does_not_answer_as_the_graph(tmp_path: Path) -> None:
    model = write_tiny_bundle(tmp_path / "bundle").path / MODEL_NAME
    image = drawn_jpeg(np.random.default_rng(1))
    log = tmp_path / "log"
    stranger = Stranger("stranger", "Stranger", one_wide, "/health")
    assert "differs from the graph by up to 0." in check(stranger, model, [image], SHAPE, 8, log)
    without_model = replace(stranger, onnx=False)
    assert check(without_model, model, [image], SHAPE, 8, log) == ""


def test_the_check_tells_a_peer_that_does_not_start(tmp_path: Path) -> None:
    class Broken(Stranger):
        module = "tests.bench.no_such_module"

    found = check(Broken("broken", "Broken", one_wide, "/health"), tmp_path, [], SHAPE, 8, tmp_path / "log")
    assert "No module named tests.bench.no_such_module" in found
