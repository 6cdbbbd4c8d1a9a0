"""Renders deploy/kubernetes, and puts its parts together as Kubernetes and KServe do, without a cluster."""

import functools
import json
import os
import re
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.monitoring import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("base", "gpu", "monitoring", "kserve")
SERVING = ("base", "gpu", "kserve")
"""Those that run the service."""

kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="kubectl is not installed: the manifests in deploy/kubernetes are NOT tested here",
)

Object = dict[str, Any]


def render_folder(folder: Path) -> list[Object]:
    """Return the objects that ``kubectl apply -k`` would send to the cluster."""
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # kustomize warns of fields that it will drop
    return list(yaml.safe_load_all(done.stdout))


@functools.cache
def _rendered(overlay: str) -> str:
    return json.dumps(render_folder(FOLDER / overlay))


def render(overlay: str) -> list[Object]:
    """Return the objects of an overlay."""
    objects: list[Object] = json.loads(_rendered(overlay))
    return objects


def only(overlay: str, kind: str, name: str = "dermaserve") -> Object:
    """Return the object of a kind and a name."""
    (found,) = (o for o in render(overlay) if (o["kind"], o["metadata"]["name"]) == (kind, name))
    return found


def pod(overlay: str) -> Object:
    """Return the specification of the pods that run the service."""
    if overlay != "kserve":
        spec: Object = only(overlay, "Deployment")["spec"]["template"]["spec"]
        return spec
    runtime, predictor = kserve_runtime(), kserve_predictor()
    model = predictor.pop("model")
    container, volumes = deepcopy(runtime["containers"][0]), deepcopy(runtime["volumes"])
    container["env"] += model["env"]
    # KServe mounts what it has downloaded from storageUri.
    container["volumeMounts"].append({"name": "bundle", "mountPath": "/mnt/models", "readOnly": True})
    volumes.append({"name": "bundle", "emptyDir": {}})
    own = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}
    return {"containers": [container], "volumes": volumes} | {
        name: value for name, value in predictor.items() if name not in own
    }


def kserve_runtime() -> Object:
    spec: Object = only("kserve", "ClusterServingRuntime")["spec"]
    return spec


def kserve_predictor() -> Object:
    predictor: Object = only("kserve", "InferenceService")["spec"]["predictor"]
    return predictor


def container(overlay: str) -> Object:
    """Return the one container of the pods."""
    (found,) = pod(overlay)["containers"]
    return dict(found)


def environment(overlay: str) -> dict[str, str]:
    """Return the variables that the manifests set. None is set twice."""
    variables = container(overlay)["env"]
    found = {variable["name"]: variable["value"] for variable in variables}
    assert len(found) == len(variables)
    return found


def number(overlay: str, port: int | str) -> int:
    """Return the number of a port, which may have a name."""
    named = {p["name"]: p["containerPort"] for p in container(overlay)["ports"]}
    return int(named.get(str(port), port))


def service_link_variables(service: str, port: int) -> dict[str, str]:
    """Return the variables that Kubernetes sets for a Service, unless the pod has no service links."""
    prefix, address = service.upper().replace("-", "_"), "10.96.0.17"
    full = f"{prefix}_PORT_{port}_TCP"
    return {
        f"{prefix}_SERVICE_HOST": address,
        f"{prefix}_SERVICE_PORT": str(port),
        f"{prefix}_SERVICE_PORT_HTTP": str(port),
        f"{prefix}_PORT": f"tcp://{address}:{port}",
        full: f"tcp://{address}:{port}",
        f"{full}_PROTO": "tcp",
        f"{full}_PORT": str(port),
        f"{full}_ADDR": address,
    }


def image_environment() -> dict[str, str]:
    """Return the variables of the Dockerfile, with the PATH of this process."""
    (text,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    found = dict(word.split("=", 1) for word in text.replace("\\\n", " ").split())
    return found | {"PATH": os.environ["PATH"]}


def image_command() -> list[str]:
    """Return the command of the Dockerfile."""
    (text,) = re.findall(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    command: list[str] = json.loads(text)
    return command
