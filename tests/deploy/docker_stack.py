"""All of docker-compose.yml, built, tried and stopped: ``make docker-test``, about ten minutes.

Not collected by the suite. The tests are one story and run in their order. Grafana takes part with
``WITH_GRAFANA=1`` in the environment; without it, it is left out, and not tested.
"""

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.deploy.docker import ALONE, BUILD_OPTIONS, Stack, run
from tests.deploy.monitoring import Prometheus, panel_queries, picture, rules, traffic, unanswered
from tests.service.app_client import wait_for
from tests.service.conftest import JPEG

WITH_GRAFANA = bool(os.environ.get("WITH_GRAFANA"))
SERVICES = ["service", "prometheus", *(["grafana"] if WITH_GRAFANA else [])]
with_grafana = pytest.mark.skipif(not WITH_GRAFANA, reason="Grafana is NOT tested: WITH_GRAFANA is not set")
PHOTO = picture(1)


@pytest.fixture(scope="module", autouse=True)
def image() -> dict[str, Any]:
    run("docker", "build", *BUILD_OPTIONS, "-t", "dermaserve", ".", timeout=1800)
    found: list[dict[str, Any]] = json.loads(run("docker", "image", "inspect", "dermaserve").stdout)
    return found[0]


@pytest.fixture(scope="module")
def prepared(image: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The containers, not started yet. They end with the module."""
    stack = Stack(tmp_path_factory.mktemp("keys"))
    try:
        yield stack
    finally:
        stack.compose("down", "--volumes", timeout=180)


@pytest.fixture(scope="module")
def key(prepared: Stack) -> str:
    return prepared.new_key("clinic")


@pytest.fixture(scope="module")
def stack(prepared: Stack, key: str) -> Stack:
    prepared.compose("up", "-d", "--no-build", *SERVICES, timeout=600)
    return prepared


@pytest.fixture(scope="module")
def prometheus(stack: Stack) -> Iterator[Prometheus]:
    api = Prometheus(stack.url("PROMETHEUS_PORT"))
    yield api
    api.close()


def predict(stack: Stack, key: str | None) -> int:
    """Return the status of one image at the published port."""
    headers = JPEG | ({"X-API-Key": key} if key is not None else {})
    return httpx.post(stack.url() + "/predict", content=PHOTO, headers=headers, timeout=60).status_code


def test_compose_does_not_start_without_a_folder_of_keys(prepared: Stack) -> None:
    missing = str(prepared.keys.with_name("missing"))
    done = prepared.compose("up", "-d", "--no-build", "service", keys=missing, check=False)
    # Some versions of Compose refuse, others make an empty folder, which the service refuses.
    wait_for(lambda: missing in done.stderr or "keys.txt" in prepared.compose("logs", "service").stdout)
    prepared.compose("rm", "--stop", "--force", "service")


def test_compose_shows_and_stops_without_naming_the_folder(prepared: Stack) -> None:
    for command in (("ps",), ("logs",), ("stop",)):
        assert prepared.compose(*command, keys=None).returncode == 0


def test_the_image_does_not_start_without_keys() -> None:
    done = run(*ALONE, check=False)
    assert done.returncode == 2, done.stderr
    assert "DERMASERVE_API_KEYS_FILE" in done.stderr


def test_the_image_has_labels_and_a_user(image: dict[str, Any]) -> None:
    labels = image["Config"]["Labels"]
    assert {f"org.opencontainers.image.{name}" for name in ("title", "licenses", "revision")} <= set(labels)
    assert image["Config"]["User"] == "10001"
    print(f"{image['Size'] / 1e6:.0f} MB with its base")


def test_containers_become_healthy(stack: Stack) -> None:
    def health() -> set[str]:
        return {stack.inspect(service)["State"]["Health"]["Status"] for service in SERVICES}

    wait_for(lambda: health() == {"healthy"}, 180)


@pytest.mark.parametrize("service", SERVICES)
def test_containers_are_locked_down(stack: Stack, service: str) -> None:
    found = stack.inspect(service)
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "5"}
    assert found["Config"]["User"].split(":")[0] not in ("", "0", "root")
    for bindings in host["PortBindings"].values():
        assert [binding["HostIp"] for binding in bindings] == ["127.0.0.1"]


def test_in_the_service_nothing_can_be_written_and_nobody_is_root(stack: Stack) -> None:
    for path in ("/app/x", "/opt/dermaserve/x", "/keys/x", "/etc/x"):
        assert "Read-only file system" in stack.python(f"open({path!r}, 'w')").stderr
    assert stack.python("import os; print(os.getuid())").stdout.strip() == "10001"


def test_the_image_holds_what_serving_needs_and_lists_it(stack: Stack) -> None:
    for module in ("tensorflow", "keras", "training", "tests", "pip"):
        assert "No module named" in stack.python(f"import {module}").stderr
    code = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
    installed = set(stack.python(code).stdout.split())
    listed = json.loads(stack.compose("exec", "-T", "service", "cat", "/opt/sbom.cdx.json").stdout)
    assert listed["bomFormat"] == "CycloneDX"
    assert {f"{part['name']}=={part['version']}" for part in listed["components"]} == installed


def test_images_are_answered_at_the_published_port_with_a_key_only(stack: Stack, key: str) -> None:
    assert predict(stack, key) == 200
    assert predict(stack, None) == 401
    assert predict(stack, "dsk_" + "x" * 43) == 401


def test_operations_are_not_reachable_from_outside(stack: Stack, key: str) -> None:
    for method, path in (("GET", "/metrics"), ("POST", "/admin/reload")):
        answer = httpx.request(method, stack.url() + path, headers={"X-API-Key": key}, timeout=30)
        assert answer.status_code == 404
    assert set(stack.inspect("service")["HostConfig"]["PortBindings"]) == {"8000/tcp"}


def test_prometheus_scrapes_the_service_and_knows_the_rules(stack: Stack, prometheus: Prometheus) -> None:
    wait_for(lambda: prometheus.health() == ["up"], 60)
    assert prometheus.values("dermaserve_ready") == [1.0]
    loaded = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in loaded} == {rule.get("alert") or rule["record"] for rule in rules()}


def test_every_panel_of_the_dashboard_has_data(stack: Stack, prometheus: Prometheus, key: str) -> None:
    missing = panel_queries()

    def all_answered() -> bool:
        missing[:] = unanswered(prometheus, missing)
        return not missing

    with traffic(stack.url(), key, threads=1):
        try:
            wait_for(all_answered, 240)
        except AssertionError:
            pytest.fail("without data: " + "\n".join(map(str, missing)))


@with_grafana
def test_grafana_shows_the_dashboard_to_everyone_on_this_machine(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url("GRAFANA_PORT"), timeout=30) as grafana:
        found = grafana.get("/api/dashboards/uid/dermaserve")
        assert found.status_code == 200
        assert found.json()["meta"]["provisioned"] is True
        assert grafana.get("/api/datasources/uid/prometheus").status_code == 403  # a viewer only looks


def test_keys_are_changed_without_a_restart(stack: Stack, key: str) -> None:
    second = stack.new_key("second")
    wait_for(lambda: predict(stack, second) == 200, 30)
    both = stack.keys.read_text().splitlines()
    stack.replace_keys(both[1] + "\n")
    wait_for(lambda: predict(stack, key) == 401, 30)
    assert predict(stack, second) == 200
    stack.replace_keys("\n".join(both) + "\n")
    wait_for(lambda: predict(stack, key) == 200, 30)


def test_stopping_answers_every_request_in_flight_and_exits_0(stack: Stack, key: str) -> None:
    before = Counter(line["status"] for line in stack.requests() if line["route"] == "/predict")
    outcomes: Counter[Any] = Counter()

    def client() -> None:
        while True:
            try:
                outcomes[predict(stack, key)] += 1
            except httpx.TransportError:  # Docker's proxy takes connections that the service never sees
                return

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: outcomes[200] > 10, 120)
    stack.compose("stop", "service")
    for thread in threads:
        thread.join(60)
    state = stack.inspect("service")["State"]
    assert (state["ExitCode"], state["OOMKilled"], state["Running"]) == (0, False, False)
    logged = Counter(line["status"] for line in stack.requests() if line["route"] == "/predict") - before
    assert set(logged) <= {200, 503}
    assert logged[200] == outcomes[200]
    print(f"{outcomes[200]} answered with 200, {outcomes[503]} with 503 after the drain; none lost")
