"""Every query of the dashboard returns data, with a real Prometheus server and a busy service."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from service.admission.api_keys import line_of, new_token
from tests.deploy.monitoring import (
    PROMETHEUS,
    Prometheus,
    annotation_queries,
    panel_queries,
    rules,
    traffic,
    unanswered,
)
from tests.service.app_client import wait_for
from tests.service.process import Process, free_port, process

KEY = new_token()

PATIENCE = 600
"""Seconds. The machine may be busy."""

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="prometheus is not installed (Debian: apt-get install --no-install-recommends prometheus): "
    "the dashboard's queries are NOT tried here",
)


@pytest.fixture
def bundle(tmp_path: Path, tiny: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "bundle"))


@pytest.fixture
def operations_port() -> int:
    return free_port()


@pytest.fixture
def service(tmp_path: Path, bundle: Path, operations_port: int) -> Iterator[Process]:
    keys = tmp_path / "keys"
    keys.write_text(line_of("operator", KEY, admin=True) + "\n")
    settings = {"API_KEYS_FILE": keys, "OPERATIONS_PORT": operations_port}
    with process(tmp_path, bundle, **settings) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def prometheus(tmp_path: Path, operations_port: int) -> Iterator[Prometheus]:
    """The configuration of deploy/, with a scrape each second of a target that is not looked up by DNS."""
    folder = Path(shutil.copytree(PROMETHEUS, tmp_path / "prometheus"))
    config = folder / "prometheus.yml"
    content = yaml.safe_load(config.read_text().replace("15s", "1s").replace("10s", "1s"))
    (job,) = content["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{operations_port}"]}]
    config.write_text(yaml.safe_dump(content))
    port = free_port()
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    with (tmp_path / "prometheus.log").open("w") as log:
        running = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT
        )
    api = Prometheus(f"http://127.0.0.1:{port}")
    try:
        wait_for(lambda: api.get("query", query="1") is not None, PATIENCE)
        yield api
    finally:
        api.close()
        running.terminate()
        running.wait(PATIENCE)


def test_every_query_of_the_dashboard_returns_data(
    service: Process, prometheus: Prometheus, operations_port: int, bundle: Path
) -> None:
    wait_for(lambda: prometheus.health() == ["up"], PATIENCE)
    assert len(prometheus.get("rules")["groups"]) == 2
    missing = panel_queries() + annotation_queries()
    assert len(missing) > 40
    reload = f"http://127.0.0.1:{operations_port}/admin/reload"
    model = bundle / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")  # altered: the reload is refused
    assert httpx.post(reload, headers={"X-API-Key": KEY}, timeout=PATIENCE).status_code == 409

    def all_answered() -> bool:
        missing[:] = unanswered(prometheus, missing)
        return not missing

    with traffic(service.url, KEY):
        try:
            wait_for(all_answered, PATIENCE)
        except AssertionError:
            pytest.fail("without data: " + "\n".join(map(str, missing)))

    def alerts() -> set[str]:
        return {alert["labels"]["alertname"] for alert in prometheus.get("alerts")["alerts"]}

    assert alerts() <= {rule["alert"] for rule in rules() if "alert" in rule}
    # On a busy machine, a scrape may take longer than the second that it has here.
    wait_for(lambda: "DermaserveDown" not in alerts(), PATIENCE)
