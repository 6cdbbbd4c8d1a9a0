"""The parts of the OpenAPI document that FastAPI cannot derive: texts, request bodies, error responses."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from models.preprocess import ACCEPTED_FORMATS
from service.api.examples import BATCH, REQUEST_ID, problem
from service.api.metadata import field_schemas
from service.api.upload import MAX_IMAGES, RAW_TYPES
from service.errors import KINDS, URN, UnreadableFile
from service.http.problems import MEDIA_TYPE, InferenceError, Problem

API_VERSION = "1.5.0"

TITLE = "dermaserve"

DESCRIPTION = """
Classifies dermatoscopic images of skin lesions. A prediction has calibrated class probabilities, a malignancy
flag at a stated operating point, a set of classes that should contain the true one, warnings about images
that the model may misjudge, and overlays that show the evidence for a class.

The flag and the label answer two questions: may the lesion be malignant, and which single class is it? They
can disagree. Then the response has the warning `flag_label_disagree`, and the overlay shows by default the
evidence for the most probable malignant class.

**Intended use: research and education. Not a medical device, not for diagnosis.** `GET /model` returns the
intended use of the served model, its training data, its measured performance and its limits.

Errors are `application/problem+json` (RFC 9457). The member `errors` lists the faults of an invalid request.
Every response has the header `X-Request-ID`: the client's own, if it sent one of 1 to 64 letters, digits,
`.`, `_` or `-`. Responses of a model have the header `X-Model`: its name and version.

Every operation can also return 400 (malformed HTTP/1.1), 405 with `Allow`, 408 (headers too slow), 431
(headers too large) and 503 (too many connections). After 429 and 503, wait for the time in `Retry-After`.

Within a major version, members, warnings and types of problems are only added. Clients must ignore those they
do not know.
"""

LICENCE = {"name": "Apache 2.0", "identifier": "Apache-2.0"}

SERVERS = [{"url": ".", "description": "The service that served this document."}]

TAGS = [
    {"name": "images", "description": "Classify images and draw overlays."},
    {"name": "model", "description": "The served model."},
    {
        "name": "open inference",
        "description": "The Open Inference Protocol (version 2), for clients of KServe, Triton and "
        "MLServer. Errors are `application/json` with the member `error`, and the members of a problem.",
    },
    {"name": "operations", "description": "Probes, metrics and administration, for operators."},
]

_BINARY = {"type": "string", "format": "binary"}
_DICOM = (
    " DICOM (`application/dicom`): secondary captures and photographs of 8 bits per sample, uncompressed or "
    "JPEG. A server without the extra `dicom` returns 415."
)
_HEIF = (
    " HEIC and HEIF (`image/heic`, `image/heif`), as phones store photographs. Damage to their pixels may "
    "also go unnoticed. A server without the extra `heif` returns 415."
)
_METADATA = (
    " Age, sex and body site are optional. Send them as form fields: proxies log the query. They are never "
    "logged by the service. `metadata_used` says which of them the model used. A model that reads only "
    "images ignores them. An empty field counts as not sent."
)
_IMAGE_PART = {"contentType": ", ".join(RAW_TYPES)}

IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The image, as a multipart part named `file` or as the raw body. Colours are "
        "converted from an embedded ICC profile to sRGB. A damaged file gets 422 if its format reveals the "
        "damage. A JPEG with one scan also gets 422 if its compressed data is too short or too long for the "
        "image. Damage to other JPEG, WebP, TIFF and BMP files may go unnoticed and change the prediction: "
        "protect files in transit with checksums."
        + _DICOM * ("DICOM" in ACCEPTED_FORMATS)
        + _HEIF * ("HEIF" in ACCEPTED_FORMATS)
        + _METADATA,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": _BINARY, **field_schemas()},
                },
                "encoding": {"file": _IMAGE_PART},
            },
            **{media_type: {"schema": _BINARY} for media_type in RAW_TYPES},
        },
    }
}

BATCH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"1 to {MAX_IMAGES} images, as multipart parts that are all named `files`. The "
        "optional field `metadata` has the age, sex and body site of each image; see `/predict`.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": MAX_IMAGES,
                            "items": _BINARY,
                        },
                        "metadata": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "contentSchema": {
                                "type": "array",
                                "items": {
                                    "anyOf": [{"$ref": "#/components/schemas/Metadata"}, {"type": "null"}]
                                },
                            },
                            "description": "A JSON array with one object or null for each image, in "
                            "the order of the images.",
                            "examples": ['[{"age": 55, "sex": "female", "site": "back"}, null]'],
                        },
                    },
                },
                "encoding": {"files": _IMAGE_PART},
            }
        },
    }
}

_EXAMPLE_DETAILS = {
    "malformed-request": "The body comes in chunks that are too small.",
    "headers-too-slow": "The request's headers were not complete in time.",
    "upload-too-slow": "The body arrived at less than 4,096 bytes per second.",
    "unauthorized": "Send exactly one X-API-Key header with a key.",
    "forbidden": "This requires a key with the role admin.",
    "unknown-model": "This server has only ham10000-ensemble, version 1.3.0.",
    "rate-limited": "This client may send 60 images per minute.",
    "body-too-large": "The request body is larger than the limit of 20,000,000 bytes.",
    "image-too-large": "The image is 20000 x 20000 pixels; at most 64,000,000 pixels are accepted.",
    "unsupported-media-type": "Send multipart/form-data with a part named 'file', or one of image/jpeg, …",
    "unsupported-image": f"The data is not an image of an accepted format ({', '.join(ACCEPTED_FORMATS)}).",
    "image-too-costly": "Decoding the image takes more than 5 s of processor time.",
    "corrupt-image": "The JPEG image is truncated or damaged and cannot be decoded.",
    "invalid-request": "The multipart body has no part named 'file'.",
    "internal-error": "The request could not be processed. Quote the request_id when you report this.",
    "not-ready": "The model is being loaded.",
    "overloaded": "The server has reached its limit of requests in progress.",
    "bundle-refused": "The old model stays in service. model.onnx: cannot be read",
    "reload-running": "A bundle is being loaded already. Try again when that is done.",
    "deadline-passed": "The deadline passed before the answer was computed.",
}

_EXAMPLE_FAULTS = {"invalid-request": [{"detail": _EXAMPLE_DETAILS["invalid-request"], "pointer": "#/file"}]}

_ERROR_DESCRIPTIONS = {
    400: "The request is not well-formed HTTP/1.1. The connection is closed.",
    408: "The headers or the body arrived too slowly. The connection is closed.",
    401: "API keys are configured, and `X-API-Key` is missing, wrong or repeated.",
    403: "The key lacks the role admin, or no keys are configured.",
    404: "The server has no model of this name and version.",
    409: "The bundle cannot be served and the old model stays in service, or another reload is running.",
    413: "The body exceeds the byte limit, or the image exceeds the pixel limit.",
    415: "The body is not an image of a supported format, or the `Content-Type` is not supported.",
    422: "The image is truncated or corrupt, or takes too much time or memory to decode, or a part is "
    "missing, or a parameter is not valid.",
    429: "The client exceeds its rate or its limit of concurrent requests. `Retry-After` says when to retry.",
    500: "The model failed.",
    503: "The service has too many requests or bytes in progress, lacks memory, is starting or is shutting "
    "down. `Retry-After` says when to retry.",
    504: "The deadline passed before the result was ready.",
}

MODEL_HEADER = {
    "X-Model": {
        "description": "Name and version of the model.",
        "schema": {"type": "string"},
        "example": "ham10000-ensemble/1.3.0",
    }
}

ETAG_HEADER = {
    "ETag": {
        "description": "Changes when the content changes.",
        "schema": {"type": "string"},
        "example": '"b1946ac92492d2347c6235b4d2611184"',
    }
}

IF_NONE_MATCH: dict[str, Any] = {
    "parameters": [
        {
            "name": "If-None-Match",
            "in": "header",
            "required": False,
            "description": "The `ETag` of the response that the client has cached.",
            "schema": {"type": "string"},
        }
    ]
}

UNCHANGED = {
    "unchanged": {
        "operationId": "model",
        "parameters": {"header.If-None-Match": "$response.header.ETag"},
        "description": "With this `ETag`, the response is 304 until another model is served.",
    }
}

_REQUEST_ID = {
    "description": "The id of the request in the server's log.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    "example": REQUEST_ID,
}

_REQUEST_ID_PARAMETER = {
    "name": "X-Request-ID",
    "in": "header",
    "required": False,
    "description": "The client's id for this request: 1 to 64 letters, digits, `.`, `_` or `-`. The server "
    "replaces any other value with its own id.",
    "schema": {"type": "string"},
}

_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"description": "`ApiKey`", "schema": {"type": "string"}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}


def json_response(
    description: str, example: dict[str, Any], headers: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Build the ``responses`` entry of a JSON response. FastAPI adds the schema."""
    content = {"application/json": {"example": example}}
    return {"description": description, "content": content, "headers": headers or {}}


def error_responses(*statuses: int, open_inference: bool = False) -> dict[int | str, dict[str, Any]]:
    """Build the ``responses`` entries for these statuses, with an example of each type of problem.

    Args:
        statuses: of errors.
        open_inference: whether the errors have the format of the Open Inference Protocol.
    """
    media_type, schema = ("application/json", InferenceError) if open_inference else (MEDIA_TYPE, Problem)
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        kinds = [
            kind for error, kind in KINDS.items() if kind.status == status and error is not UnreadableFile
        ]
        examples = {}
        for kind in kinds:
            detail, faults = _EXAMPLE_DETAILS[kind.type], _EXAMPLE_FAULTS.get(kind.type)
            value = problem(URN + kind.type, kind.title, status, detail, faults)
            examples[kind.type] = {"value": value | ({"error": detail} if open_inference else {})}
        reference = {"$ref": f"#/components/schemas/{schema.__name__}"}
        content = {media_type: {"schema": reference, "examples": examples}}
        responses[status] = {"description": _ERROR_DESCRIPTIONS[status], "content": content}
        if status in _HEADERS:
            responses[status]["headers"] = _HEADERS[status]
    return responses


IMAGE_ERRORS = error_responses(400, 401, 408, 413, 415, 422, 429, 500, 503, 504)


def complete_document(document: dict[str, Any], requests: Sequence[type[BaseModel]] = ()) -> dict[str, Any]:
    """Add the parts that apply to all operations to FastAPI's OpenAPI document, and return it.

    These are the schema of problems, ``X-Request-ID`` in requests and responses, and optional API keys for
    all routes except ``/admin``. ``requests`` are the models of request bodies that FastAPI does not know.
    """
    components = document["components"]
    template = "#/components/schemas/{model}"
    for model in (Problem, InferenceError):
        schema = model.model_json_schema(ref_template=template, mode="serialization")
        components["schemas"] |= {**schema.pop("$defs"), model.__name__: schema}
    for request in requests:
        schema = request.model_json_schema(ref_template=template)
        components["schemas"] |= {**schema.pop("$defs", {}), request.__name__: schema}
    batch = document["paths"]["/predict/batch"]["post"]["responses"]["200"]
    batch["content"]["application/json"]["example"] = BATCH  # with its nulls, which FastAPI removes
    components["headers"] = {"X-Request-ID": _REQUEST_ID}
    components["parameters"] = {"X-Request-ID": _REQUEST_ID_PARAMETER}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            reference = {"$ref": "#/components/parameters/X-Request-ID"}
            operation["parameters"] = [*operation.get("parameters", []), reference]
            if "security" in operation and not path.startswith("/admin/"):
                operation["security"] = [*operation["security"], {}]
            for response in operation["responses"].values():
                headers = response.get("headers", {}) | {
                    "X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}
                }
                response["headers"] = headers
    return document
