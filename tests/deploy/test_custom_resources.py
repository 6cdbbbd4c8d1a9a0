"""The custom resources of deploy/kubernetes against models of what KEDA and the Prometheus operator define.

KServe's are held to its SDK by tests/clients/with_kserve_models.py, in another environment.
"""

import functools
from typing import Any

import pytest

from tests.deploy.custom_resources import KEDA, OPERATOR, faults, misspelt, without
from tests.deploy.kubernetes import OVERLAYS, Object, kubectl, only, render

pytestmark = kubectl

OBJECTS = {
    "ScaledObject": ("gpu", "scaleTargetRef", "triggers", "triggers[0].type", "triggers[0].metadata"),
    "ServiceMonitor": ("monitoring", "selector", "endpoints"),
    "PrometheusRule": ("monitoring", "groups[0].name", "groups[0].rules[0].expr"),
}
"""For each kind the overlay, and fields of ``spec`` that are required."""


@functools.cache
def models() -> dict[tuple[str, str], Any]:
    """Return the models by ``apiVersion`` and kind. They take seconds to import."""
    reason = "cloudcoil-models-… is missing: custom resources are NOT validated"
    keda = pytest.importorskip("cloudcoil.models.keda.v1alpha1", reason=reason)
    operator = pytest.importorskip("cloudcoil.models.prometheus_operator.v1", reason=reason)
    return {
        (f"{KEDA}v1alpha1", "ScaledObject"): keda.ScaledObject,
        (f"{OPERATOR}v1", "ServiceMonitor"): operator.ServiceMonitor,
        (f"{OPERATOR}v1", "PrometheusRule"): operator.PrometheusRule,
    }


def read(thing: Object) -> Object:
    model = models()[thing["apiVersion"], thing["kind"]]
    found: Object = model.model_validate(thing).model_dump(mode="json", by_alias=True, exclude_unset=True)
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_custom_resources_match_their_models(overlay: str) -> None:
    found = [thing for thing in render(overlay) if thing["apiVersion"].startswith((KEDA, OPERATOR))]
    assert {thing["kind"]: faults(thing, read) for thing in found} == {
        kind: [] for kind, (where, *_) in OBJECTS.items() if where == overlay
    }


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_misspelt_field_is_a_fault(kind: str) -> None:
    found = {path: faults(damaged, read) for path, damaged in misspelt(only(OBJECTS[kind][0], kind))}
    assert {".apiVersion", ".kind", ".metadata", ".metadata.name", ".spec"} < found.keys()
    assert [path for path, told in found.items() if not told] == []


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, name) for kind, (_, *names) in OBJECTS.items() for name in names]
)
def test_a_missing_field_is_a_fault(kind: str, field: str) -> None:
    (fault,) = faults(without(only(OBJECTS[kind][0], kind), f".spec.{field}"), read)
    assert "Field required" in fault


def test_a_number_in_quotes_is_a_fault() -> None:
    scaled = only("gpu", "ScaledObject")
    scaled["spec"]["maxReplicaCount"] = "8"
    assert faults(scaled, read) == [".spec.maxReplicaCount: '8' was read as 8"]
