"""The manifests of deploy/kubernetes: rendered, held to schemas, and the pod that they describe started."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from models.bundle import SCHEMA_VERSION, load_bundle
from service.admission.api_keys import line_of, new_token
from service.observability.metrics import Metrics
from service.settings import PREFIX, Settings
from tests.deploy.custom_resources import KEDA, KSERVE, OPERATOR, misspelt
from tests.deploy.kubernetes import (
    FOLDER,
    OVERLAYS,
    SERVING,
    Object,
    container,
    environment,
    image_command,
    image_environment,
    kserve_predictor,
    kserve_runtime,
    kubectl,
    number,
    only,
    pod,
    render,
    render_folder,
    service_link_variables,
)
from tests.deploy.memory_plan import planned_memory
from tests.deploy.monitoring import DASHBOARD, PROMETHEUS, ROOT, alerts
from tests.docs.pages import block

pytestmark = kubectl

KUBERNETES = "1.32"
"""The version whose schemas the manifests must match."""

POD = Path(__file__).with_name("pod.py")
UNSHARE = ("unshare", "--map-root-user", "--net", "--mount")


def gibibytes(text: str) -> int:
    return int(text.removesuffix("Gi"))


def validate(thing: Object) -> None:
    module = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is missing: no schema")
    module.validate(thing, KUBERNETES, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_matches_the_schemas_of_kubernetes(overlay: str) -> None:
    for thing in render(overlay):
        if not thing["apiVersion"].startswith((KEDA, OPERATOR, KSERVE)):
            validate(thing)
    if overlay == "kserve":
        validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod("kserve")})


@pytest.mark.parametrize(
    "kind", ["Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget"]
)
def test_a_misspelt_field_does_not_match_the_schemas_of_kubernetes(kind: str) -> None:
    module = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is missing: no schema")
    for _path, damaged in misspelt(only("base", kind)):
        with pytest.raises((module.ValidationError, KeyError)):
            validate(damaged)


@pytest.mark.parametrize("overlay", SERVING)
def test_a_pod_is_locked_down(overlay: str) -> None:
    spec, found = pod(overlay), container(overlay)
    security = spec.get("securityContext", {}) | found["securityContext"]
    user = re.search(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user is not None
    assert security == {
        "runAsNonRoot": True,
        "runAsUser": int(user[1]),
        "seccompProfile": {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert not any("hostPath" in volume for volume in spec["volumes"])


@pytest.mark.parametrize("overlay", SERVING)
def test_a_pod_has_as_long_to_stop_as_the_service_takes_with_traces(overlay: str) -> None:
    found = environment(overlay)
    settings = Settings()
    pause = float(found.get(f"{PREFIX}DRAIN_PAUSE", settings.drain_pause))
    grace = float(found.get(f"{PREFIX}SHUTDOWN_GRACE", settings.shutdown_grace))
    assert pod(overlay)["terminationGracePeriodSeconds"] == pause + grace + 5


@pytest.mark.parametrize("overlay", SERVING)
def test_the_memory_is_the_plan_of_operations_and_the_alert(overlay: str) -> None:
    resources = container(overlay)["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    limit = gibibytes(resources["limits"]["memory"])
    assert planned_memory(int(environment(overlay)[f"{PREFIX}DECODE_WORKERS"])) <= limit * 1024**3
    expression = next(a["expr"] for a in alerts() if a["alert"] == "DermaserveMemoryHigh")
    base, extra = map(int, re.findall(r"\((\d+) \+ (\d+) \*", expression)[0])
    assert limit == base + extra * (environment(overlay)[f"{PREFIX}DEVICE"] == "cuda")


@pytest.mark.parametrize("overlay", SERVING)
def test_variables_are_settings_and_demand_the_shipped_bundle(overlay: str, shipped_bundle: Path) -> None:
    found = environment(overlay)
    assert {name for name in found if name.removeprefix(PREFIX).lower() not in Settings.model_fields} == set()
    assert found[f"{PREFIX}BUNDLE_DIGEST"] == load_bundle(shipped_bundle).digest


@pytest.mark.parametrize("overlay", SERVING)
def test_the_image_is_set_by_digest_as_kustomize_edit_does(overlay: str, tmp_path: Path) -> None:
    name, digest = "registry.example.org/team/dermaserve", "sha256:" + "1" * 64
    # What `kustomize edit set image dermaserve=NAME@DIGEST` writes. The base is rendered already.
    placeholder = container(overlay)["image"]
    assert re.fullmatch(r"dermaserve(-gpu)?@sha256:0{64}", placeholder)
    relative = os.path.relpath(FOLDER / overlay, tmp_path.resolve())
    images = [{"name": placeholder.partition("@")[0], "newName": name, "digest": digest}]
    (tmp_path / "kustomization.yml").write_text(json.dumps({"resources": [relative], "images": images}))
    text = json.dumps(render_folder(tmp_path))
    assert f'"{name}@{digest}"' in text
    assert "@sha256:0" not in text


def test_the_example_of_the_document_is_an_overlay(tmp_path: Path) -> None:
    (tmp_path / "dermaserve").symlink_to(ROOT)
    (tmp_path / "kustomization.yml").write_text(block("docs/kubernetes.md", "Your own overlay", "yaml"))
    objects = render_folder(tmp_path)
    assert {thing["metadata"]["namespace"] for thing in objects} == {"dermaserve"}
    assert {"Deployment", "ServiceMonitor", "ConfigMap"} <= {thing["kind"] for thing in objects}
    (deployment,) = (thing for thing in objects if thing["kind"] == "Deployment")
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    assert found["image"].startswith("registry.example.org/dermaserve@sha256:")
    mounted = {mount["mountPath"]: mount for mount in found["volumeMounts"]}
    variables = {variable["name"]: variable["value"] for variable in found["env"]}
    assert mounted[variables["DERMASERVE_BUNDLE"]]["readOnly"] is True
    assert variables["DERMASERVE_BUNDLE_DIGEST"] != environment("base")["DERMASERVE_BUNDLE_DIGEST"]
    validate(deployment)


def test_the_operations_port_has_a_service_of_its_own_that_sets_no_variables() -> None:
    public, operations = only("base", "Service"), only("base", "Service", "dermaserve-operations")
    assert [port["targetPort"] for port in public["spec"]["ports"]] == ["http"]
    assert number("base", "http") == Settings().port
    (port,) = operations["spec"]["ports"]
    assert number("base", port["targetPort"]) == int(environment("base")[f"{PREFIX}OPERATIONS_PORT"])
    # Kubernetes sets no variables for it, such as DERMASERVE_OPERATIONS_PORT.
    assert operations["spec"]["clusterIP"] == "None"
    assert operations["spec"]["publishNotReadyAddresses"] is True


def test_services_policies_and_spreading_select_the_pods() -> None:
    deployment = only("base", "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [only("base", "Service", name)["spec"]["selector"] for name in _services()]
    selectors += [only("base", "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
    selectors += [only("base", "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]]
    spread = pod("base")["topologySpreadConstraints"]
    selectors += [constraint["labelSelector"]["matchLabels"] for constraint in spread]
    selectors += [deployment["spec"]["selector"]["matchLabels"]]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)
    assert [constraint["topologyKey"] for constraint in spread] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]


def _services() -> list[str]:
    return [thing["metadata"]["name"] for thing in render("base") if thing["kind"] == "Service"]


def test_the_network_lets_clients_to_the_public_port_and_prometheus_to_the_other() -> None:
    spec = only("base", "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["egress"] == []
    public, operations = spec["ingress"]
    assert public == {"ports": [{"port": "http"}]}
    assert operations["ports"] == [{"port": "operations"}]
    assert operations["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]


def test_the_pods_are_scaled_by_one_autoscaler() -> None:
    kinds = {overlay: {thing["kind"] for thing in render(overlay)} for overlay in ("base", "gpu")}
    scalers = {"HorizontalPodAutoscaler", "ScaledObject"}
    assert kinds["base"] & scalers == {"HorizontalPodAutoscaler"}
    assert kinds["gpu"] & scalers == {"ScaledObject"}
    autoscaler = only("base", "HorizontalPodAutoscaler")["spec"]
    assert autoscaler["scaleTargetRef"]["name"] == only("base", "Deployment")["metadata"]["name"]
    assert autoscaler["metrics"][0]["resource"]["name"] == "cpu"
    assert "replicas" not in only("base", "Deployment")["spec"]


def test_gpu_pods_have_one_gpu_each_and_are_scaled_by_the_queue() -> None:
    assert container("gpu")["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert environment("gpu")[f"{PREFIX}DEVICE"] == "cuda"
    scaled = only("gpu", "ScaledObject")["spec"]
    assert scaled["scaleTargetRef"] == {"name": only("gpu", "Deployment")["metadata"]["name"]}
    (trigger,) = scaled["triggers"]
    assert trigger["type"] == "prometheus"
    assert 'dermaserve_queue_depth{job="dermaserve"}' in trigger["metadata"]["query"]
    assert b"\ndermaserve_queue_depth " in generate_latest(Metrics().registry)


def test_the_prometheus_rule_is_rules_yml() -> None:
    rules = (PROMETHEUS / "rules.yml").read_text()
    indented = re.sub(r"^(?=.)", "  ", rules, flags=re.MULTILINE)
    written = (FOLDER / "monitoring" / "prometheus-rule.yml").read_text()
    assert written.partition("\nspec:\n")[2] == indented, "make pages"


def test_the_monitor_finds_the_operations_port_and_names_the_job_of_the_rules() -> None:
    spec = only("monitoring", "ServiceMonitor")["spec"]
    service = only("base", "Service", "dermaserve-operations")
    labels, selected = service["metadata"]["labels"], spec["selector"]["matchLabels"]
    assert selected.items() <= labels.items()
    assert not selected.items() <= only("base", "Service")["metadata"]["labels"].items()
    assert labels[spec["jobLabel"]] == "dermaserve"
    (endpoint,) = spec["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]


def test_the_dashboard_is_the_one_of_compose() -> None:
    board = only("monitoring", "ConfigMap", "dermaserve-dashboard")
    assert board["data"] == {"dermaserve.json": DASHBOARD.read_text()}
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_kserve_runs_the_container_of_base_on_the_bundle_that_it_downloads(shipped_bundle: Path) -> None:
    runtime, predictor = kserve_runtime(), kserve_predictor()
    formats = runtime["supportedModelFormats"]
    assert [(f["name"], f["version"]) for f in formats] == [("dermaserve", str(SCHEMA_VERSION))]
    model = predictor["model"]
    assert model["modelFormat"] == {"name": "dermaserve", "version": str(SCHEMA_VERSION)}
    assert model["runtime"] == only("kserve", "ClusterServingRuntime")["metadata"]["name"]
    shipped = load_bundle(shipped_bundle).manifest
    assert model["storageUri"].endswith(f"/{shipped.name}-{shipped.version}")
    assert environment("kserve") == environment("base") | {f"{PREFIX}BUNDLE": "/mnt/models"}
    assert container("kserve")["resources"] == container("base")["resources"]
    (port,) = container("kserve")["ports"]
    assert port["containerPort"] == number("base", "http")


def test_kserve_names_the_protocol_and_the_readiness_that_the_service_answers() -> None:
    paths = json.loads((ROOT / "openapi" / "openapi.json").read_text())["paths"]
    assert kserve_runtime()["protocolVersions"] == ["v2"]
    assert kserve_predictor()["model"]["protocolVersion"] == "v2"
    assert "/v2/models/{name}/infer" in paths
    assert container("kserve")["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert "/v2/health/ready" in paths


@pytest.mark.parametrize("overlay", ["base", "kserve"])
def test_the_container_starts_and_stops_as_the_manifests_say(
    overlay: str, tmp_path: Path, shipped_bundle: Path
) -> None:
    """With the variables of the image, of a Service named dermaserve and of the manifests, and no others."""
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare cannot make namespaces: the container was NOT started as the manifests say")
    spec, found = pod(overlay), container(overlay)
    (tmp_path / "keys.txt").write_text(line_of("clinic", new_token()) + "\n")
    (tmp_path / "keys.txt").chmod(0o644)
    sources = {"keys": str(tmp_path), "bundle": str(shipped_bundle), "tmp": None}
    assert {volume["name"] for volume in spec["volumes"]} == {m["name"] for m in found["volumeMounts"]}
    mounts = [
        {
            "path": mount["mountPath"],
            "source": sources[mount["name"]],
            "read_only": mount.get("readOnly", False),
        }
        for mount in found["volumeMounts"]
    ]
    probes = [found[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
    command = found.get("command", []) + found.get("args", []) or image_command()
    assert command[0] == "python"
    plan = {
        "command": [sys.executable, *command[1:]],
        "environment": image_environment()
        | service_link_variables("dermaserve", 80)
        | service_link_variables("dermaserve-predictor", 80)
        | environment(overlay),
        "folder": str(ROOT),
        "mounts": mounts,
        "probes": [[number(overlay, probe["port"]), probe["path"]] for probe in probes],
    }
    assert plan["environment"]["DERMASERVE_PORT"].startswith("tcp://")  # type: ignore[index]
    done = subprocess.run(
        [*UNSHARE, sys.executable, POD], input=json.dumps(plan), capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["statuses"] == [200, 200, 200], answer["output"]
    assert answer["writable"] == {mount["path"]: not mount["read_only"] for mount in mounts}
    assert "Ignored variables that Kubernetes sets" in answer["output"]
    assert answer["exit"] == 0, answer["output"]
