"""schemathesis reads the live service's OpenAPI document, and tries to make the service break it.

Its configuration, with what is left out and why, is in ``schemathesis.toml``. By hand, for longer:
``SCHEMATHESIS_EXAMPLES=1000 pytest -s tests/service/api/test_schemathesis.py``.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from service.admission.api_keys import line_of, new_token
from tests.service.process import ROOT, process

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")

KEYED = {
    ("POST", "/predict"),
    ("POST", "/predict/batch"),
    ("POST", "/gradcam"),
    ("GET", "/model"),
    ("GET", "/metrics"),
    ("POST", "/admin/reload"),
    ("GET", "/v2"),
    *(
        (method, f"/v2/models/tiny-test-bundle{version}{path}")
        for version in ("", "/versions/0.0.1")
        for method, path in (("GET", ""), ("GET", "/ready"), ("POST", "/infer"))
    ),
}
OPEN = {("GET", path) for path in ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready")}
IMAGES = {operation for operation in KEYED if operation[0] == "POST"} - {("POST", "/admin/reload")}


def test_responses_match_the_openapi_document(tmp_path: Path, tiny: Path) -> None:
    token = new_token()
    (tmp_path / "keys").write_text(line_of("tester", token, admin=True) + "\n")
    report = tmp_path / "report.har"
    longer = os.environ.get("SCHEMATHESIS_EXAMPLES")
    options = ["--max-examples", longer] if longer else []
    with process(tmp_path, tiny, API_KEYS_FILE=tmp_path / "keys") as server:
        server.wait_ready()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--no-color"),
                *("--config-file", str(CONFIGURATION)),
                *("run", f"{server.url}/openapi.json", "--report-har-path", str(report), *options),
            ],
            cwd=tmp_path,  # it leaves files where it runs
            env=os.environ | {"SCHEMATHESIS_KEY": token, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=3600 if longer else 240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in server.output()
    seen = statuses(report, server.url)
    for operation in KEYED | OPEN:
        assert 200 in seen[operation]
    assert {operation for operation, codes in seen.items() if 401 in codes} == KEYED
    assert {operation for operation, codes in seen.items() if 422 in codes} == IMAGES
    assert 304 in seen["GET", "/model"]  # by the link from its own ETag


def statuses(report: Path, url: str) -> dict[tuple[str, str], set[int]]:
    """Return the statuses of each method and path in an HTTP archive."""
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for entry in json.loads(report.read_text(encoding="utf-8"))["log"]["entries"]:
        path = entry["request"]["url"].removeprefix(url).partition("?")[0]
        found[entry["request"]["method"], path].add(entry["response"]["status"])
    return found
