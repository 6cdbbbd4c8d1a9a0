"""``bench.gpu`` as far as a CPU can run it."""

from pathlib import Path

import pytest

from bench.gpu import CPU, main
from tests.tiny_bundle import write_tiny_bundle


def test_without_a_gpu_it_says_so_in_one_line_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [CPU])
    assert main(["--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("No GPU to measure: this ONNX Runtime is built without CUDA")
    assert len(printed.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("metadata", [False, True])
def test_a_rehearsal_measures_everything_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], metadata: bool
) -> None:
    monkeypatch.delenv("DERMASERVE_HAM10000", raising=False)
    bundle = write_tiny_bundle(tmp_path / "bundle", metadata=metadata)
    options = ["--rehearse", "--bundle", str(bundle.path), "--out", str(tmp_path), "--seconds", "0.2"]
    assert main([*options, "--batches", "1", "2", "--clients", "2", "--runs", "2"]) == 0, (
        capsys.readouterr().err
    )
    text = (tmp_path / "gpu.md").read_text()
    assert "- card: none: a rehearsal" in text
    assert "| precision | images/s, batch of 1 | images/s, batch of 2 |" in text
    rows = [
        line.split(" | ") for line in text.splitlines() if line.startswith(("| fp32", "| tf32", "| fp16"))
    ]
    assert [len(row) for row in rows] == [5, 5, 5]
    assert all(row[-1].startswith("1.000") for row in rows)
    assert "| clients | images/s | p50, ms |\n| --- | --- | --- |\n| 2 | " in text
