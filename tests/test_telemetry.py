"""Nobody is told that the software is used: ONNX Runtime would, from the moment it is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def load(tmp_path: Path, code: str) -> list[Path]:
    """What a new process leaves in an empty home; ONNX Runtime keeps its identifier and its events there."""
    # Without what the environment of a test may have: the switch itself, or a sign of continuous integration.
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=120)
    return [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("module", ["service.inference.onnx_session", "training.export.runtime"])
def test_loading_onnx_runtime_leaves_no_identifier_and_no_events(tmp_path: Path, module: str) -> None:
    assert load(tmp_path, f"import {module}, onnxruntime") == []
