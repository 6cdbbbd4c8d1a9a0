"""KServe's SDK, with the models of the client of Kubernetes, reads the objects of the overlay ``kserve``."""

import json
import os
from pathlib import Path
from typing import Any

import kserve.models
import kubernetes.client
import pytest

from tests.deploy.custom_resources import KSERVE, Object, faults, misspelt, without

OBJECTS: dict[str, Object] = {
    thing["kind"]: thing for thing in json.loads(Path(os.environ["FACTS"]).read_text())["manifests"]
}
MODELS = {
    (f"{KSERVE}v1alpha1", "ClusterServingRuntime"): "V1alpha1ClusterServingRuntime",
    (f"{KSERVE}v1beta1", "InferenceService"): "V1beta1InferenceService",
}
PRIMITIVES = {"str": str, "int": int, "bool": bool}


def read(thing: Object) -> Object:
    found: Object = read_as(MODELS[thing["apiVersion"], thing["kind"]], thing)
    return found


def read_as(name: str, value: Any) -> Any:
    """Return what the SDK's type of this name keeps of a value, as JSON. Raises ValueError."""
    kind, _, rest = name.partition("[")
    if kind == "list":
        return [read_as(rest.removesuffix("]"), item) for item in value]
    if kind == "dict(str, str)":
        return {key: read_as("str", item) for key, item in value.items()}
    if kind in PRIMITIVES:
        if type(value) is not PRIMITIVES[kind]:
            raise ValueError(f"{value!r} is not {kind}")
        return value
    if own := getattr(kserve.models, kind, None):
        types = {written: own.openapi_types[attribute] for attribute, written in own.attribute_map.items()}
        found = {written: read_as(types[written], value[written]) for written in types.keys() & value.keys()}
        # Raises ValueError for a required field.
        own(**{attribute: found.get(written) for attribute, written in own.attribute_map.items()})
        return found
    model = getattr(kubernetes.client, kind).model_validate(value)
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)


@pytest.mark.parametrize("kind", [kind for _, kind in MODELS])
def test_an_object_matches_the_sdk(kind: str) -> None:
    assert faults(OBJECTS[kind], read) == []


def test_the_overlay_has_no_other_objects() -> None:
    assert OBJECTS.keys() == {kind for _, kind in MODELS}


@pytest.mark.parametrize("kind", [kind for _, kind in MODELS])
def test_a_misspelt_field_is_a_fault(kind: str) -> None:
    found = {path: faults(damaged, read) for path, damaged in misspelt(OBJECTS[kind])}
    assert {".apiVersion", ".kind", ".metadata", ".metadata.name", ".spec"} < found.keys()
    assert [path for path, told in found.items() if not told] == []


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("ClusterServingRuntime", "containers"),
        ("ClusterServingRuntime", "containers[0].name"),
        ("ClusterServingRuntime", "containers[0].ports[0].containerPort"),
        ("ClusterServingRuntime", "volumes[0].name"),
        ("InferenceService", "predictor"),
        ("InferenceService", "predictor.model.modelFormat"),
    ],
)
def test_a_missing_field_is_a_fault(kind: str, field: str) -> None:
    assert faults(without(OBJECTS[kind], f".spec.{field}"), read) != []


def test_a_number_in_quotes_is_a_fault() -> None:
    service = json.loads(json.dumps(OBJECTS["InferenceService"]))
    service["spec"]["predictor"]["maxReplicas"] = "10"
    assert faults(service, read) == ["ValueError: '10' is not int"]
