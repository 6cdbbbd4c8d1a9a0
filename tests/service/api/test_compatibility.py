"""The API has no breaking change since the last released version, unless its major version is new."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.compatibility import breaking_changes

FOLDER = Path(__file__).parents[3] / "openapi"
Document = dict[str, Any]


def read(name: str) -> Document:
    document: Document = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return document


CURRENT = read("openapi.json")
(RELEASED,) = (read(path.name) for path in FOLDER.glob("openapi-*.json"))


def test_no_client_of_the_released_version_breaks() -> None:
    assert breaking_changes(RELEASED, CURRENT) == []


def schema(document: Document, name: str) -> Document:
    found: Document = document["components"]["schemas"][name]
    return found


def predict(document: Document) -> Document:
    found: Document = document["paths"]["/predict"]["post"]
    return found


def remove_an_operation(document: Document) -> None:
    del document["paths"]["/gradcam"]


def remove_a_response_field(document: Document) -> None:
    del schema(document, "Prediction")["properties"]["uncertainty"]
    schema(document, "Prediction")["required"].remove("uncertainty")


def make_a_response_field_optional(document: Document) -> None:
    schema(document, "Malignancy")["required"].remove("flag")


def add_a_value_to_a_response(document: Document) -> None:
    schema(document, "Malignancy")["properties"]["flag"]["enum"].append("unknown")


def change_the_type_of_a_response_field(document: Document) -> None:
    schema(document, "Malignancy")["properties"]["threshold"]["type"] = "string"


def require_a_form_field(document: Document) -> None:
    form = predict(document)["requestBody"]["content"]["multipart/form-data"]["schema"]
    form["properties"]["patient"] = {"type": "string"}
    form["required"].append("patient")


def require_a_parameter(document: Document) -> None:
    new = {"in": "query", "name": "patient", "required": True, "schema": {"type": "string"}}
    predict(document)["parameters"].append(new)


def remove_a_parameter(document: Document) -> None:
    parameters = predict(document)["parameters"]
    parameters[:] = [parameter for parameter in parameters if parameter.get("name") != "gradcam"]


def refuse_a_media_type(document: Document) -> None:
    del predict(document)["requestBody"]["content"]["image/tiff"]


def accept_fewer_images(document: Document) -> None:
    body = document["paths"]["/predict/batch"]["post"]["requestBody"]["content"]["multipart/form-data"]
    body["schema"]["properties"]["files"]["maxItems"] = 8


def require_a_key(document: Document) -> None:
    predict(document)["security"] = [{"ApiKey": []}]


def require_a_key_where_there_was_no_security(document: Document) -> None:
    document["paths"]["/livez"]["get"]["security"] = [{"ApiKey": []}]


def require_a_key_of_the_whole_document(document: Document) -> None:
    document["security"] = [{"ApiKey": []}]


def require_a_second_credential(document: Document) -> None:
    document["components"]["securitySchemes"]["Bearer"] = {"type": "http", "scheme": "bearer"}
    document["paths"]["/admin/reload"]["post"]["security"] = [{"ApiKey": [], "Bearer": []}]


def take_the_key_from_another_header(document: Document) -> None:
    document["components"]["securitySchemes"]["ApiKey"]["name"] = "Authorization"


def headers(document: Document, status: str) -> Document:
    found: Document = predict(document)["responses"][status]["headers"]
    return found


def remove_a_response_header(document: Document) -> None:
    del headers(document, "200")["X-Model"]


def remove_a_header_of_an_error(document: Document) -> None:
    del headers(document, "429")["Retry-After"]


def make_a_response_header_optional(document: Document) -> None:
    document["components"]["headers"]["X-Request-ID"]["required"] = False


def change_the_type_of_a_response_header(document: Document) -> None:
    headers(document, "503")["Retry-After"]["schema"] = {"type": "string"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (remove_an_operation, "POST /gradcam: removed"),
        (remove_a_response_field, ".uncertainty: removed"),
        (make_a_response_field_optional, ".flag: no longer always there"),
        (add_a_value_to_a_response, "benign, malignant became benign, malignant, unknown"),
        (change_the_type_of_a_response_field, ".threshold: type number became string"),
        (require_a_form_field, ".patient: newly required"),
        (require_a_parameter, "query parameter patient: newly required"),
        (remove_a_parameter, "query parameter gradcam: removed"),
        (refuse_a_media_type, "image/tiff: removed"),
        (accept_fewer_images, ".files: maxItems 32 became 8"),
        (require_a_key, "POST /predict: security: nothing no longer suffices"),
        (require_a_key_where_there_was_no_security, "GET /livez: security: nothing no longer suffices"),
        (require_a_key_of_the_whole_document, "GET /readyz: security: nothing no longer suffices"),
        (require_a_second_credential, "POST /admin/reload: security: ApiKey no longer suffices"),
        (take_the_key_from_another_header, "POST /admin/reload: security: ApiKey no longer suffices"),
        (remove_a_response_header, "POST /predict: response 200: header x-model: removed"),
        (remove_a_header_of_an_error, "POST /predict: response 429: header retry-after: removed"),
        (make_a_response_header_optional, "header x-request-id: no longer always there"),
        (change_the_type_of_a_response_header, "header retry-after: type integer became string"),
    ],
)
def test_a_breaking_change_is_refused(change: Callable[[Document], None], said: str) -> None:
    changed = copy.deepcopy(CURRENT)
    change(changed)
    found = breaking_changes(CURRENT, changed)
    assert any(said in line for line in found), found


def add_a_response_field(document: Document) -> None:
    schema(document, "Prediction")["properties"]["seconds"] = {"type": "number"}
    schema(document, "Prediction")["required"].append("seconds")


def add_an_optional_form_field(document: Document) -> None:
    form = predict(document)["requestBody"]["content"]["multipart/form-data"]["schema"]
    form["properties"]["phototype"] = {"type": "integer"}


def accept_another_media_type(document: Document) -> None:
    predict(document)["requestBody"]["content"]["image/heic"] = {"schema": {"type": "string"}}


def accept_more_images(document: Document) -> None:
    body = document["paths"]["/predict/batch"]["post"]["requestBody"]["content"]["multipart/form-data"]
    body["schema"]["properties"]["files"]["maxItems"] = 64


def rewrite_a_text(document: Document) -> None:
    schema(document, "Malignancy")["description"] = "Another text."


def require_no_key(document: Document) -> None:
    document["paths"]["/admin/reload"]["post"]["security"] = []


def accept_another_credential(document: Document) -> None:
    document["components"]["securitySchemes"]["Bearer"] = {"type": "http", "scheme": "bearer"}
    document["paths"]["/admin/reload"]["post"]["security"].append({"Bearer": []})


def add_a_response_header(document: Document) -> None:
    headers(document, "200")["X-Seconds"] = {"schema": {"type": "number"}}


def write_a_response_header_otherwise(document: Document) -> None:
    found = headers(document, "200")
    found["x-model"] = found.pop("X-Model")


@pytest.mark.parametrize(
    "change",
    [
        add_a_response_field,
        add_an_optional_form_field,
        accept_another_media_type,
        accept_more_images,
        rewrite_a_text,
        require_no_key,
        accept_another_credential,
        add_a_response_header,
        write_a_response_header_otherwise,
    ],
)
def test_a_compatible_change_passes(change: Callable[[Document], None]) -> None:
    changed = copy.deepcopy(CURRENT)
    change(changed)
    assert breaking_changes(CURRENT, changed) == []


def test_a_new_major_version_may_break() -> None:
    changed = copy.deepcopy(CURRENT)
    remove_an_operation(changed)
    changed["info"]["version"] = "2.0.0"
    assert breaking_changes(CURRENT, changed) == []
