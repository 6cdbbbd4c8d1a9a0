"""Each panel of the dashboard has a description and reads series of the service."""

import itertools
import math
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.monitoring import (
    annotation_queries,
    dashboard,
    names,
    panel_queries,
    panels,
    rules,
)
from tests.service.app_client import Client
from tests.service.conftest import JPEG


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_has_a_description_a_unit_and_a_legend(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_have_ids_and_places_of_their_own_on_24_columns() -> None:
    everything = dashboard()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in everything)
        for x, y in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        )
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_every_metric_of_rules_and_dashboard_is_one_of_the_service(client: Client, jpeg: bytes) -> None:
    client.post("/gradcam", content=jpeg, headers=JPEG)
    families = text_string_to_metric_families(client.get("/metrics").text)
    there = {"up", *(name for family in families for name in (family.name, *_series(family)))}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    expressions = [query.expression for query in panel_queries() + annotation_queries()]
    expressions += [rule["expr"] for rule in rules()]
    read = {name for expression in expressions for name in names(expression)}
    assert read - recorded - there == set()


def test_rules_and_dashboard_count_exactly_the_routes_that_take_images(client: Client, jpeg: bytes) -> None:
    model = f"/v2/models/{client.get('/model').json()['name']}"
    version = f"/versions/{client.get('/model').json()['version']}"
    taking = ["/predict", "/gradcam", "/predict/batch", f"{model}/infer", f"{model}{version}/infer"]
    for path in (*taking, "/admin/reload"):
        client.post(path, content=jpeg, headers=JPEG)
    labels = {"/inference.GRPCInferenceService/ModelInfer"}  # tests/service/open_inference/test_grpc.py
    for path in ("/model", "/v2", model, f"{model}/ready", "/v2/health/ready", "/readyz"):
        assert client.get(path).status_code == 200
    for family in text_string_to_metric_families(client.get("/metrics").text):
        labels |= {sample.labels["route"] for sample in family.samples if "route" in sample.labels}
    image = {label for label in labels if re.search(r"/predict|/gradcam|[Ii]nfer$", label)}
    assert len(image) == len(taking) + 1
    assert labels - image

    expressions = [query.expression for query in panel_queries()] + [rule["expr"] for rule in rules()]
    patterns = {found for expression in expressions for found in re.findall(r'route=~"([^"]+)"', expression)}
    of_one_image = "/predict|/gradcam"  # of the times
    (counted,) = patterns - {of_one_image}
    assert {label for label in labels if re.fullmatch(counted, label)} == image


def test_every_metric_of_the_service_is_on_the_dashboard(client: Client) -> None:
    families = text_string_to_metric_families(client.get("/metrics").text)
    ours = {family.name for family in families if re.match(r"dermaserve_.*(?<!_created)$", family.name)}
    read = " ".join(
        [query.expression for query in panel_queries()]
        + [rule["expr"] for rule in rules() if "record" in rule]
    )
    assert {name for name in ours if name not in read} == set()


def _series(family: Any) -> list[str]:
    """Return the names of the samples of a family. Labelled samples exist only after their first value."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return [family.name + suffix for suffix in suffixes.get(family.type, [])]


def test_thresholds_ascend() -> None:
    for panel in panels():
        values = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert values[0] is None
        assert values[1:] == sorted(values[1:])
        assert not any(math.isnan(value) for value in values[1:])
