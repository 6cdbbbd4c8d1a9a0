"""The profile ``proxy`` of docker-compose.yml with three replicas: ``make docker-test``.

Not collected by the suite. The tests are one story and run in their order.
"""

import json
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.deploy.docker import BUILD_OPTIONS, Stack, run
from tests.deploy.haproxy import make_certificate
from tests.deploy.monitoring import Prometheus, picture
from tests.docs.pages import block
from tests.service.app_client import wait_for
from tests.service.conftest import JPEG
from tests.service.process import free_port

SERVICES = ["service", "proxy", "prometheus"]
REPLICAS = 3
PHOTO = picture(1)
PATIENCE = 600


class Clients:
    """Clients of the proxy, each of whose requests has a connection of its own."""

    def __init__(self, url: str, key: str, context: ssl.SSLContext) -> None:
        self._url, self._headers, self._context = url, JPEG | {"X-API-Key": key}, context

    def ask(self, *, again: bool = False) -> int:
        """Return the status of one image, or 0 if the connection was closed without an answer.

        ``again`` repeats it after ``Retry-After``, as the documents tell clients.
        """
        try:
            answer = httpx.post(
                f"{self._url}/predict",
                content=PHOTO,
                headers=self._headers,
                timeout=PATIENCE,
                verify=self._context,
            )
        except httpx.TransportError:
            return 0
        if again and answer.status_code == 503:
            time.sleep(int(answer.headers["retry-after"]))
            return self.ask(again=True)
        return answer.status_code

    def during(self, change: Callable[[], object], *, again: bool = False) -> list[tuple[float, float, int]]:
        """Return start, end and status of each request."""
        found, stop = [], False

        def client() -> None:
            while not stop:
                began = time.monotonic()
                status = self.ask(again=again)
                found.append((began, time.monotonic(), status))

        with ThreadPoolExecutor() as pool:
            clients = [pool.submit(client) for _ in range(4)]
            try:
                wait_for(lambda: len(found) > 10, PATIENCE)
                change()
                until = len(found) + 10
                wait_for(lambda: len(found) > until, PATIENCE)
            finally:
                stop = True
            for one in clients:
                one.result()
        print(Counter(status for _, _, status in found))
        return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The settings are those that docs/scale.md writes into .env, with free ports."""
    run("docker", "build", *BUILD_OPTIONS, "-t", "dermaserve", ".", timeout=1800)
    run("docker", "build", *BUILD_OPTIONS, "-t", "dermaserve-proxy", "deploy/haproxy", timeout=1800)
    tls = make_certificate(tmp_path_factory.mktemp("certificate"))
    (tls / "dermaserve.pem").chmod(0o644)  # the user of the container is not root
    for folder in (tls, *tls.parents[:2]):
        folder.chmod(0o755)
    example = block("docs/scale.md", "Replicas behind the proxy", "sh").partition("END\n")[0]
    written = dict(line.split("=") for line in example.splitlines() if "=" in line)
    assert set(written) == {"COMPOSE_PROFILES", "TRUSTED_PROXIES", "PORT"}
    first = free_port()
    written["PORT"] = f"{first}-{first + REPLICAS}"  # and one more for the update
    stack = Stack(tmp_path_factory.mktemp("keys"), TLS_DIR=str(tls), HTTPS_PORT=str(free_port()), **written)
    try:
        yield stack
    finally:
        stack.compose("down", "--volumes", timeout=PATIENCE)


@pytest.fixture(scope="module")
def clients(stack: Stack) -> Clients:
    key = stack.new_key("clinic")
    stack.compose("up", "-d", "--no-build", "--scale", f"service={REPLICAS}", *SERVICES, timeout=PATIENCE)
    context = ssl.create_default_context(cafile=Path(stack.variable("TLS_DIR"), "ca.pem"))
    clients = Clients(f"https://localhost:{stack.variable('HTTPS_PORT')}", key, context)
    wait_for(lambda: clients.ask() == 200, PATIENCE)
    return clients


@pytest.fixture(scope="module")
def prometheus(stack: Stack) -> Iterator[Prometheus]:
    api = Prometheus(stack.url("PROMETHEUS_PORT"))
    yield api
    api.close()


def health(container: str) -> str:
    (found,) = json.loads(run("docker", "inspect", container).stdout)
    return str(found["State"]["Health"]["Status"])


def test_all_containers_become_healthy(stack: Stack, clients: Clients) -> None:
    def all_health() -> set[str]:
        return {health(container) for name in SERVICES for container in stack.containers(name)}

    wait_for(lambda: all_health() == {"healthy"}, PATIENCE)
    assert len(stack.containers("service")) == REPLICAS
    assert stack.inspect("proxy")["Config"]["User"] == "10002"


def test_prometheus_finds_every_replica(clients: Clients, prometheus: Prometheus) -> None:
    wait_for(lambda: prometheus.health() == ["up"] * REPLICAS, PATIENCE)
    assert prometheus.values("sum(dermaserve_ready)") == [REPLICAS]


def test_the_service_trusts_exactly_the_proxy(stack: Stack, clients: Clients) -> None:
    found = stack.python("import socket; print(*socket.gethostbyname_ex('proxy')[2])").stdout.split()
    networks = stack.inspect("proxy")["NetworkSettings"]["Networks"].values()
    assert found == [network["IPAddress"] for network in networks]


def test_a_signal_reloads_all_replicas_and_fails_no_request(
    stack: Stack, clients: Clients, prometheus: Prometheus
) -> None:
    found = clients.during(lambda: stack.compose("kill", "-s", "HUP", "service"))
    assert {status for _, _, status in found} == {200}
    query = 'count(dermaserve_reloads_total{outcome="loaded"} >= 1)'
    wait_for(lambda: prometheus.values(query) == [REPLICAS], PATIENCE)


def test_the_proxy_reads_its_configuration_again_and_fails_no_request(stack: Stack, clients: Clients) -> None:
    found = clients.during(lambda: stack.compose("kill", "-s", "HUP", "proxy"))
    assert {status for _, _, status in found} == {200}


def test_stopping_a_replica_fails_no_request(stack: Stack, clients: Clients) -> None:
    first = stack.containers("service")[0]
    found = clients.during(lambda: run("docker", "stop", "-t", "60", first, timeout=PATIENCE))
    assert {status for _, _, status in found} == {200}
    run("docker", "start", first)
    wait_for(lambda: health(first) == "healthy", PATIENCE)


def test_an_update_one_by_one_fails_no_request(stack: Stack, clients: Clients) -> None:
    """Runs the commands of docs/scale.md for three replicas. Clients repeat a request that gets 503."""
    run("docker", "build", "-t", "dermaserve", "-", input="FROM dermaserve\nLABEL updated=yes\n")
    build, _, rest = block("docs/scale.md", "An update without a gap", "sh").partition("\n")
    assert build == "docker compose build service"
    update = rest.replace("service=5", f"service={REPLICAS + 1}")
    before = set(stack.containers("service"))
    found = clients.during(lambda: stack.shell(update, timeout=PATIENCE), again=True)
    assert {status for _, _, status in found} == {200}
    after = set(stack.containers("service"))
    assert len(after) == REPLICAS
    assert not after & before


def test_killing_a_replica_fails_only_what_it_was_working_on(stack: Stack, clients: Clients) -> None:
    killed: list[float] = []

    def kill() -> None:
        killed.append(time.monotonic())
        run("docker", "kill", stack.containers("service")[1])
        killed.append(time.monotonic())

    found = clients.during(kill)
    lost = [(began, ended, status) for began, ended, status in found if status != 200]
    assert {status for _, _, status in lost} <= {0, 502}
    assert [each for each in lost if not (each[0] < killed[1] and each[1] > killed[0])] == []
