"""The OpenAPI document is complete, and the committed file is up to date."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import jsonschema_rs
import pytest

from service.__main__ import main
from service.admission.api_keys import line_of, new_token
from service.api.examples import MODEL_CARD
from service.cli.openapi import openapi_text
from service.inference.warnings import CODES
from tests.service.app_client import Client, running

COMMITTED = Path(__file__).parents[3] / "openapi" / "openapi.json"

ROUTES = {
    ("/predict", "post"),
    ("/predict/batch", "post"),
    ("/gradcam", "post"),
    ("/model", "get"),
    ("/livez", "get"),
    ("/readyz", "get"),
    ("/metrics", "get"),
    ("/admin/reload", "post"),
    ("/v2", "get"),
    ("/v2/health/live", "get"),
    ("/v2/health/ready", "get"),
    *(
        (f"/v2/models/{{name}}{version}{path}", method)
        for version in ("", "/versions/{version}")
        for path, method in (("", "get"), ("/ready", "get"), ("/infer", "post"))
    ),
}


def committed() -> dict[str, Any]:
    """The document with all routes, as the code generates it."""
    document: dict[str, Any] = json.loads(COMMITTED.read_text(encoding="utf-8"))
    return document


def test_the_committed_document_is_what_the_code_generates() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == openapi_text(), (
        "the API changed: run `python -m service openapi > openapi/openapi.json` and review the difference"
    )


def test_the_command_prints_the_document_without_reading_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DERMASERVE_PORT", "nonsense")
    monkeypatch.setenv("DERMASERVE_BUNDLE", "/nowhere")
    assert main(["openapi"]) == 0
    assert capsys.readouterr().out == openapi_text()


def test_the_document_is_served_with_the_routes_that_a_client_may_use(
    client: Client, tiny: Path, tmp_path: Path
) -> None:
    def served(door: Client) -> set[tuple[str, str]]:
        paths = door.get("/openapi.json").json()["paths"]
        return {(path, method) for path, item in paths.items() for method in item}

    admin = {("/admin/reload", "post")}
    assert served(client) == ROUTES - admin
    keys = tmp_path / "keys"
    keys.write_text(line_of("operator", new_token(), admin=True) + "\n")
    with running(tiny, api_keys_file=keys) as keyed:
        assert served(keyed) == ROUTES
    with running(tiny, api_keys_file=keys, operations_port=1) as apart:
        assert served(apart) == ROUTES - admin - {("/metrics", "get")}
    paths = committed()["paths"]
    assert {(path, method) for path, item in paths.items() for method in item} == ROUTES


@pytest.mark.parametrize("prefix", ["", "/clinic/skin"])
def test_the_server_of_the_document_is_relative(client: Client, prefix: str) -> None:
    (server,) = client.get("/openapi.json").json()["servers"]
    base = f"http://proxy.example{prefix}/"
    assert urljoin(f"{base}openapi.json", server["url"]) == base


def test_every_error_is_a_problem_with_examples() -> None:
    document = committed()
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path, method in ROUTES:
        for status, response in document["paths"][path][method]["responses"].items():
            if int(status) < 400:
                continue
            protocol = path.startswith("/v2")
            content = response["content"]["application/json" if protocol else "application/problem+json"]
            name = "InferenceError" if protocol else "Problem"
            assert content["schema"] == {"$ref": f"#/components/schemas/{name}"}
            assert content["examples"]
            assert all(example["value"]["status"] == int(status) for example in content["examples"].values())


def test_every_json_answer_has_an_example_that_its_schema_allows() -> None:
    document = committed()
    tried = 0
    for path, method in ROUTES:
        for status, response in document["paths"][path][method]["responses"].items():
            assert "$ref" in response["headers"]["X-Request-ID"], (path, status)
            for media_type, content in response.get("content", {}).items():
                examples = [example["value"] for example in content.get("examples", {}).values()]
                examples += [content["example"]] if "example" in content else []
                assert examples, (path, status, media_type)
                if "json" not in media_type:
                    continue
                schema = content["schema"] | {"components": document["components"]}
                validator = jsonschema_rs.Draft202012Validator(_closed(schema))
                for example in examples:
                    validator.validate(example)
                    tried += 1
    assert tried > len(ROUTES)


def _closed(node: Any) -> Any:
    """Forbid additional members in the schema, so that examples cannot have any."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {"additionalProperties": False} if "properties" in node and node.get("type") == "object" else {}
    return {key: _closed(value) for key, value in node.items()} | closed


def test_every_operation_is_described() -> None:
    document = committed()
    assert document["info"]["license"]["identifier"] == "Apache-2.0"
    assert document["servers"]
    tags = {tag["name"] for tag in document["tags"]}
    operations = [document["paths"][path][method] for path, method in ROUTES]
    assert len({operation["operationId"] for operation in operations}) == len(ROUTES)
    for operation in operations:
        assert set(operation["tags"]) <= tags
        assert operation["summary"]
        assert operation["description"]
        parameters = [p for p in operation["parameters"] if "$ref" not in p]
        parameters += document["components"]["parameters"].values()
        assert all(parameter["description"] for parameter in parameters)
        assert all(answer["description"] for answer in operation["responses"].values())


def test_the_example_of_the_model_is_the_one_that_ships(shipped_bundle: Path) -> None:
    with running(shipped_bundle) as client:
        served = client.get("/model").json()
    assert _differences(MODEL_CARD, served, "model") == []


def _differences(example: Any, served: Any, where: str) -> list[str]:
    """The places where an example differs, apart from rounding and omitted members."""
    if isinstance(example, dict):
        parts = [(f"{where}.{key}", value, served.get(key)) for key, value in example.items()]
    elif isinstance(example, list) and example and isinstance(example[0], dict) and "factor" in example[0]:
        names = [(group["factor"], group["value"]) for group in served]
        parts = [(where, g, served[names.index((g["factor"], g["value"]))]) for g in example]
    elif isinstance(example, list) and where != "model.limits":
        parts = [(f"{where}.{i}", *pair) for i, pair in enumerate(zip(example, served, strict=True))]
    elif isinstance(example, float):
        return [] if example == pytest.approx(served, rel=0.006, abs=1e-3) else [f"{where}: {served}"]
    else:  # texts may be shortened
        same = isinstance(example, str | list) or example == served
        return [] if same and type(example) is type(served) else [f"{where}: {served}"]
    return [line for place, left, right in parts for line in _differences(left, right, place)]


def test_a_key_is_optional_except_for_admin_routes() -> None:
    paths = committed()["paths"]
    keyed = {path: next(iter(item.values())).get("security") for path, item in paths.items()}
    assert keyed.pop("/admin/reload") == [{"ApiKey": []}]
    for open_to_all in ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert keyed.pop(open_to_all) is None
    assert all(security == [{"ApiKey": []}, {}] for security in keyed.values())


def test_every_operation_has_the_request_id_parameter() -> None:
    document = committed()
    (shared,) = document["components"]["parameters"].values()
    assert (shared["name"], shared["in"]) == ("X-Request-ID", "header")
    for path, method in ROUTES:
        parameters = document["paths"][path][method]["parameters"]
        assert parameters.count({"$ref": "#/components/parameters/X-Request-ID"}) == 1


def test_parameters_have_plain_schemas(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/predict", "/gradcam"):
        schemas = {p["name"]: p["schema"] for p in paths[path]["post"]["parameters"] if "name" in p}
        assert schemas["gradcam_class"]["type"] == "string"
        assert "anyOf" not in schemas["gradcam_class"]


def test_results_of_a_batch_have_a_discriminator(client: Client) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    items = schemas["BatchPrediction"]["properties"]["results"]["items"]
    assert items["discriminator"]["propertyName"] == "kind"
    for kind, reference in items["discriminator"]["mapping"].items():
        schema = schemas[reference.rpartition("/")[2]]
        assert schema["properties"]["kind"]["const"] == kind
        assert {"kind", "index", "filename"} <= set(schema["required"])


def test_image_routes_offer_a_file_and_a_raw_body(client: Client) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/predict", "/gradcam"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        assert content["multipart/form-data"]["schema"]["properties"]["file"]["format"] == "binary"
        assert {"image/jpeg", "image/png", "image/webp", "image/tiff", "image/bmp"} < set(content)
        assert {"413", "415", "422", "503", "504"} < set(document["paths"][path]["post"]["responses"])


def test_the_document_lists_every_warning_code(client: Client) -> None:
    warning = client.get("/openapi.json").json()["components"]["schemas"]["ImageWarning"]
    named = set(re.findall(r"`(\w+)`", warning["properties"]["code"]["description"]))
    assert named == set(CODES)


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for value in node.values() for ref in references(value)]
    return [ref for value in node for ref in references(value)] if isinstance(node, list) else []


def test_every_reference_resolves(client: Client) -> None:
    document = client.get("/openapi.json").json()
    for reference in references(document):
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
