"""A TypeScript client generated from ``openapi/openapi.json`` compiles strictly and works with the service.

It needs Node 20, npm and the npm registry: ``make typescript-test``. Its ``package.json`` pins exactly the
packages that are named in it. There is no lock file, because npm's would hold the address of a registry.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

from service.admission.api_keys import line_of, new_token
from tests.service.process import ROOT, process
from tests.synthetic import draw_lesion, encoded
from tests.tiny_bundle import write_tiny_bundle

SOURCES = Path(__file__).with_name("typescript")
STRICT = ("--strict", "--noUncheckedIndexedAccess", "--target", "es2022", "--module", "nodenext")


def run(folder: Path, *command: str, **variables: str) -> str:
    """Run a program in ``folder`` and return what it prints. Fail with its output if it fails."""
    done = subprocess.run(
        command, cwd=folder, env=os.environ | variables, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_generated_client_compiles_strictly_and_gets_typed_answers(tmp_path: Path) -> None:
    client = shutil.copytree(SOURCES, tmp_path / "client")
    run(client, "npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts")
    run(client, "node", "generate.mjs", str(ROOT / "openapi" / "openapi.json"))
    tsc = client / "node_modules" / ".bin" / "tsc"
    run(client, str(tsc), *STRICT, "--noEmitOnError", "--outDir", "built", "use.ts")
    lesion = encoded(draw_lesion(np.random.default_rng(1), code="mel"), "JPEG")
    (client / "lesion.jpg").write_bytes(lesion)
    token = new_token()
    (tmp_path / "keys").write_text(line_of("clinic", token) + "\n")
    bundle = write_tiny_bundle(tmp_path / "bundle").path
    with process(tmp_path, bundle, API_KEYS_FILE=tmp_path / "keys") as server:
        server.wait_ready()
        found = json.loads(run(client, "node", "built/use.js", URL=server.url, KEY=token))
    assert found["probabilities"] == found["raw"]
    assert sum(found["probabilities"].values()) > 0.999
    assert found["gradcam"] == found["overlay"]["label"]
    assert found["overlay"]["size"] > 1000
    first, second = found["results"]
    assert (first["index"], first["overlay"]) == (0, "mel")
    assert second == {"index": 1, "status": 415, "type": "urn:dermaserve:problem:unsupported-image"}
    assert found["refused"] == {"type": second["type"], "status": 415}
