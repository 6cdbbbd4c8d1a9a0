"""docker-compose.yml, read as text: what holds for every container, without Docker."""

import re
from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.deploy.memory_plan import planned_memory
from tests.deploy.monitoring import ROOT, alerts

CONFIGURATION = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
PROXY_RECIPE = CONFIGURATION.with_name("Dockerfile")
GIB = {"g": 1.0, "m": 1 / 1024}


def compose(name: str = "docker-compose.yml") -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return content


@pytest.fixture(params=["service", "proxy", "prometheus", "grafana"])
def container(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"][request.param]
    return found


def test_every_container_is_locked_down_and_bounded(container: dict[str, Any]) -> None:
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    # A container that got SIGHUP by "docker compose kill" counts as stopped by hand.
    assert container["restart"] == ("always" if "build" in container else "unless-stopped")
    assert re.fullmatch(r"\d+[gm]", container["mem_limit"])
    assert container["pids_limit"] <= 256
    assert container["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert not any(key in container for key in ("privileged", "network_mode", "cap_add", "pid"))


def test_every_container_has_a_user_and_a_health_check(container: dict[str, Any]) -> None:
    if "build" in container:
        recipe = (ROOT / container["build"]["context"] / "Dockerfile").read_text()
        assert re.search(r"^USER 1000\d$", recipe, re.MULTILINE)
        assert re.search(r"^HEALTHCHECK ", recipe, re.MULTILINE)
    else:
        assert not container["user"].startswith(("0", "root"))
        assert container["healthcheck"]["test"][0] == "CMD"


def test_ports_are_published_on_loopback_and_the_operations_port_is_not(container: dict[str, Any]) -> None:
    (port,) = container["ports"]
    assert re.match(r"127\.0\.0\.1:|\$\{(HTTPS_)?ADDRESS:-127\.0\.0\.1\}:", port)
    assert not port.endswith(":9100")


def test_images_are_pinned_by_version() -> None:
    services = compose()["services"]
    texts = [services[name]["image"] for name in ("prometheus", "grafana")]
    texts += [services["service"]["build"]["args"]["BASE"]]
    for text in texts:
        assert re.fullmatch(r"\$\{[A-Z_]+:-[a-z/]+:v?\d+\.\d+(\.\d+|-slim-bookworm)\}", text), text
    base = re.search(r"^ARG BASE=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert base is not None
    assert texts[2] == "${BASE:-" + base[1] + "}"
    proxy = services["proxy"]["build"]["args"]["BASE"]
    assert f"ARG BASE={proxy.removeprefix('${PROXY_BASE:-').removesuffix('}')}\n" in PROXY_RECIPE.read_text()


def test_the_proxy_is_started_by_its_profile_only_and_uses_the_configuration_that_is_tested() -> None:
    services = compose()["services"]
    assert [name for name, service in services.items() if "profiles" in service] == ["proxy"]
    proxy = services["proxy"]
    assert proxy["profiles"] == ["proxy"]
    assert "./deploy/haproxy:/etc/haproxy:ro" in proxy["volumes"]
    assert '"/etc/haproxy/haproxy.cfg"]' in PROXY_RECIPE.read_text()
    assert services["service"]["environment"]["DERMASERVE_TRUSTED_PROXIES"] == "${TRUSTED_PROXIES:-}"


def test_the_proxy_waits_longer_than_the_service_and_stops_before_it_is_killed() -> None:
    text = CONFIGURATION.read_text()
    for name in ("client", "server"):
        (seconds,) = re.findall(rf"^ +timeout {name} (\d+)s$", text, re.MULTILINE)
        assert int(seconds) > Settings().request_timeout
    (last,) = re.findall(r"^ +hard-stop-after (\d+)s$", text, re.MULTILINE)
    assert int(last) > Settings().request_timeout
    assert int(compose()["services"]["proxy"]["stop_grace_period"].removesuffix("s")) > int(last)


def test_the_proxy_notices_a_draining_replica_before_it_refuses_work() -> None:
    text = CONFIGURATION.read_text()
    every, times = map(int, re.findall(r"inter (\d)s fastinter 100ms fall (\d)", text)[0])
    assert every * times < Settings().drain_pause


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.gpu.yml"])
def test_every_command_of_compose_runs_without_any_variable(name: str) -> None:
    variables = re.findall(r"\$\{?[A-Z_]+[^}\"]*", (ROOT / name).read_text())
    assert [variable for variable in variables if ":-" not in variable] == []


def test_compose_requires_a_folder_of_keys() -> None:
    service = compose()["services"]["service"]
    (volume,) = service["volumes"]
    assert (volume["type"], volume["target"], volume["read_only"]) == ("bind", "/keys", True)
    assert volume["source"] == "${KEYS_DIR:-./keys}"
    assert service["environment"]["DERMASERVE_API_KEYS_FILE"] == "/keys/keys.txt"
    assert "DERMASERVE_ALLOW_ANONYMOUS" not in service["environment"]


def test_settings_of_the_containers_are_settings_of_the_service() -> None:
    known = {f"DERMASERVE_{name.upper()}" for name in Settings.model_fields}
    for name in ("docker-compose.yml", "docker-compose.gpu.yml"):
        assert set(compose(name)["services"]["service"]["environment"]) <= known


def test_a_container_has_longer_to_stop_than_the_service_takes() -> None:
    patience = int(compose()["services"]["service"]["stop_grace_period"].removesuffix("s"))
    settings = Settings()
    assert patience > settings.drain_pause + settings.shutdown_grace


def test_the_memory_alert_matches_the_limits() -> None:
    expression = next(a["expr"] for a in alerts() if a["alert"] == "DermaserveMemoryHigh")
    base, extra = map(float, re.findall(r"\((\d+) \+ (\d+) \*", expression)[0])
    cpu, gpu = (
        compose(name)["services"]["service"]["mem_limit"]
        for name in ("docker-compose.yml", "docker-compose.gpu.yml")
    )
    assert base == float(cpu[:-1]) * GIB[cpu[-1]]
    assert base + extra == float(gpu[:-1]) * GIB[gpu[-1]]


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.gpu.yml"])
def test_the_memory_that_operations_tells_to_plan_is_within_the_limit(name: str) -> None:
    service = compose(name)["services"]["service"]
    default = re.fullmatch(
        r"\$\{DECODE_WORKERS:-(\d+)\}", service["environment"]["DERMASERVE_DECODE_WORKERS"]
    )
    assert default is not None
    limit = service["mem_limit"]
    assert planned_memory(int(default[1])) <= float(limit[:-1]) * GIB[limit[-1]] * 1024**3


def test_prometheus_scrapes_the_operations_port_of_the_service_as_often_as_grafana_believes() -> None:
    scraping = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = scraping["scrape_configs"]
    port = compose()["services"]["service"]["environment"]["DERMASERVE_OPERATIONS_PORT"]
    (found,) = job["dns_sd_configs"]
    assert (found["names"], found["type"], found["port"]) == (["service"], "A", int(port))
    source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ][0]
    assert source["jsonData"]["timeInterval"] == scraping["global"]["scrape_interval"]
