"""The examples of the page about the Open Inference Protocol; ``make client-test`` runs tritonclient."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from service.admission.api_keys import line_of, new_token
from tests.docs.pages import block
from tests.service.process import process
from tests.synthetic import draw_lesion, encoded

PAGE = "docs/inference-protocol.md"


def test_the_example_for_curl_gets_the_outputs(tmp_path: Path, shipped_bundle: Path) -> None:
    token = new_token()
    (tmp_path / "keys").write_text(line_of("clinic", token) + "\n")
    (tmp_path / "lesion.jpg").write_bytes(encoded(draw_lesion(np.random.default_rng(1), code="mel"), "JPEG"))
    with process(tmp_path, shipped_bundle, API_KEYS_FILE=tmp_path / "keys") as server:
        server.wait_ready()
        environment = os.environ | {"URL": server.url, "KEY": token}
        script = "set -e\n" + block(PAGE, "curl", "sh")
        subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, check=True, timeout=60)
    outputs = json.loads((tmp_path / "outputs.json").read_text())["outputs"]
    assert [output["name"] for output in outputs] == ["label", "flag", "warnings"]
    assert outputs[1]["data"][0] in ("malignant", "benign")


@pytest.mark.parametrize("heading", ["tritonclient"])
def test_the_example_in_python_compiles(heading: str) -> None:
    compile(block(PAGE, heading, "python"), PAGE, "exec")
