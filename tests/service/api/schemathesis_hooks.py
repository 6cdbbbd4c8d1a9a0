"""Hooks for schemathesis: facts that the OpenAPI document does not contain. Loaded by schemathesis.toml."""

import base64
from importlib import import_module
from typing import Any

import numpy as np
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, HookContext, Response

from models.labels import HAM10000_LABELS
from models.preprocess import ACCEPTED_FORMATS
from tests.dicom_files import dicom_file
from tests.synthetic import draw_lesion, encoded

if "HEIF" in ACCEPTED_FORMATS:
    import_module("models.heif")

_LESION = draw_lesion(np.random.default_rng(1), code="mel")

# To the document an image is any bytes; what deserves a 200 is a picture of the type that it says. Raw
# bodies are then never bytes that are no image: test_bad_uploads.py and tests/long/fuzz.py send those.
for _format, _media_type in ACCEPTED_FORMATS.items():
    _name = _format.replace("HEIC", "HEIF")
    _file = dicom_file(_LESION) if _name == "DICOM" else encoded(_LESION, _name)
    schemathesis.openapi.media_type(_media_type, st.just(_file))


@schemathesis.hook
def before_load_schema(_: HookContext, raw_schema: dict[str, Any]) -> None:
    """Add the facts of this server: the codes of its classes, and that keys are required."""
    for operations in raw_schema["paths"].values():
        for operation in operations.values():
            if "security" in operation:
                operation["security"] = [key for key in operation["security"] if key]
    codes = [label.code for label in HAM10000_LABELS]
    for path in ("/predict", "/predict/batch", "/gradcam"):
        for parameter in raw_schema["paths"][path]["post"]["parameters"]:
            if parameter.get("name") == "gradcam_class":
                parameter["schema"] = {"type": "string", "enum": codes}
    for path, operations in raw_schema["paths"].items():
        for operation in operations.values() if path.startswith("/v2/models/") else ():
            _name_the_model(operation)
    # OpenAPI cannot say that it has one entry for each image; test_metadata.py tests it.
    form = raw_schema["paths"]["/predict/batch"]["post"]["requestBody"]["content"]["multipart/form-data"]
    del form["schema"]["properties"]["metadata"]


def _name_the_model(operation: dict[str, Any]) -> None:
    """Leave what a path of the Open Inference Protocol means, and a request whose parts fit together."""
    served = {"name": "tiny-test-bundle", "version": "0.0.1"}
    for parameter in operation["parameters"]:
        if parameter.get("in") == "path":
            parameter["schema"] = {"type": "string", "enum": [served[parameter["name"]]]}
    # A length has no meaning without binary tensors, which test_rest.py sends.
    operation["parameters"] = [
        parameter
        for parameter in operation["parameters"]
        if not parameter.get("name", "").startswith("Inference")
    ]
    if "requestBody" not in operation:
        return
    content = operation["requestBody"]["content"]
    del content["application/octet-stream"]
    file = base64.b64encode(encoded(_LESION, "JPEG")).decode()
    tensor = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [file]}
    content["application/json"]["example"] = {"inputs": [tensor]}
    content["application/json"]["schema"] = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"], "maxLength": 256},
            "inputs": {"enum": [[tensor]]},
            "outputs": {"enum": [None, [], [{"name": "flag"}, {"name": "label"}]]},
        },
    }


@schemathesis.hook
def before_call(_: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Set ``gradcam`` with each ``gradcam_class``, because OpenAPI cannot express that dependency."""
    asks = case.path in ("/predict", "/predict/batch") and "gradcam_class" in (case.query or {})
    if asks and case.query.get("gradcam", False) in (False, "false"):
        case.query["gradcam"] = "true"
    # Nor that a value in the query and in the form must be the same.
    if isinstance(case.body, dict) and not (case.meta is not None and case.meta.generation.mode.is_negative):
        for name in {"age", "sex", "site"} & set(case.query or {}):
            case.body.pop(name, None)


@schemathesis.check
def a_batch_says_what_is_no_image(_: CheckContext, response: Response, case: Case[Any]) -> None:
    """A batch that violates the document is refused, or has a problem for each part that is not an image."""
    negative = case.meta is not None and case.meta.generation.mode.is_negative
    if case.path == "/predict/batch" and negative and response.status_code == 200:
        results = response.json()["results"]
        assert any(result.get("status", 0) >= 400 for result in results), results
