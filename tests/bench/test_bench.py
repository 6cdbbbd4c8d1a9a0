"""The whole harness, for moments: the limit, our real service with a tiny bundle, peers."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.__main__ import main
from bench.peers import Peer
from bench.results import Entry, Results
from tests.synthetic import draw_lesion, encoded
from tests.tiny_bundle import write_tiny_bundle


class Fake(Peer):
    python = Path(sys.executable)
    module = "tests.bench.fake_peer"


FAKE = Fake("fake", "Fake", "/health", onnx=False)
STRANGER = Fake("stranger", "Stranger", "/health")
MISSING = Peer("missing", "Missing", "/health")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one run of everything, with images that are there already."""
    folder = tmp_path_factory.mktemp("bench")
    write_tiny_bundle(folder / "bundle", metadata=True)
    rng = np.random.default_rng(1)
    for size, width, height in (("600x450", 600, 450), ("12mp", 1200, 900)):
        lesion = encoded(draw_lesion(rng, width=width, height=height), "JPEG")
        (folder / "images" / f"{size}-synthetic").mkdir(parents=True)
        (folder / "images" / f"{size}-synthetic" / "0.jpg").write_bytes(lesion)
    arguments = ["--python", sys.executable, "--bundle", str(folder / "bundle"), "--out", str(folder)]
    arguments += ["--repetitions", "1", "--seconds", "0.2", "--clients", "16", "--requests", "20"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DERMASERVE_HAM10000", raising=False)
        status = main(arguments, known=(FAKE, STRANGER, MISSING))
    assert status == 1
    return folder


def test_every_cell_is_measured_whatever_is_wrong_with_a_peer(out: Path) -> None:
    saved = json.loads((out / "results.json").read_text())
    results = Results(saved["machine"], saved["settings"], [Entry(**entry) for entry in saved["entries"]])
    failures = {(entry.subject, entry.cell): entry.error for entry in results.failures()}
    assert failures.keys() == {("missing", "process"), ("stranger", "process")}
    assert "differs from the graph by up to 0." in failures["stranger", "process"]
    assert "cannot be started" in failures["missing", "process"]
    closed = ["raw 16", "multipart 16", "gradcam 16", "12mp 16"]
    for cell in [*closed, "half even", "half poisson"]:
        assert results.of("dermaserve", cell, "throughput")[0] > 0, cell
        assert results.of("dermaserve", cell, "p95")[0] >= results.of("dermaserve", cell, "p50")[0] > 0
        assert results.of("dermaserve", cell, "load_cpu")[0] > 0
    assert results.of("fake", "multipart 16", "throughput")[0] > 0
    for size in ("600x450", "12mp"):
        assert results.of("limit", f"{size}, batch 1", "throughput")[0] > 0
        assert results.of("limit", size, "single")[0] > 0
    assert results.limit()[0] > 0
    assert results.of("dermaserve", "process", "ready")[0] > 0
    assert results.of("dermaserve", "process", "rss")[0] > 50e6
    assert results.of("dermaserve", "memory", "requests") == {0: 20}


def test_tables_and_plot_are_written(out: Path) -> None:
    report = (out / "report.md").read_text()
    assert "raw body, 16 clients, share of the limit" in report
    assert "| missing | process | cannot be started" in report
    assert (out / "report.png").is_file()


def test_unknown_parts_and_peers_are_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--only", "servce"], ["--peers", "nobody"], ["--clients", "few"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "invalid" in capsys.readouterr().err
