"""What the OpenAPI document says beyond types: texts, request bodies, errors with examples."""

from typing import Any

from models.preprocess import ACCEPTED_FORMATS
from service.api.examples import BATCH, REQUEST_ID, problem
from service.api.upload import MAX_IMAGES, RAW_TYPES
from service.errors import KINDS, URN
from service.http.problems import MEDIA_TYPE, Problem

API_VERSION = "1.3.0"

TITLE = "dermaserve"

DESCRIPTION = """
Classifies dermatoscopic images of skin lesions: calibrated class probabilities, a malignancy flag
at a stated operating point, a set of classes meant to hold the true one, warnings of images that the
model should not be trusted with, and overlays of what spoke for a class.

The flag and the label answer two questions: may it be malignant, and which single class is it? They can
disagree; the answer then has the warning `flag_label_disagree`, and the overlay shows by default what spoke
for the most probable malignant class.

**Intended use: research and education. Not a medical device, not for diagnosis.** What the served
model is for, what it was trained on, how good it was measured to be and where its limits are:
`GET /model`.

Errors are `application/problem+json` (RFC 9457); `errors` names what is wrong with an invalid request, and
where. Every answer carries `X-Request-ID`: the client's own, if it sent one of 1 to 64 letters, digits,
`.`, `_` or `-`. Answers of a model carry `X-Model`: its name and version.

Beside what each operation lists, any may answer 400 (no well-formed HTTP/1.1), 405 with `Allow`, 408
(headers too slow), 431 (headers too large) and, with too many connections, 503. Wait for `Retry-After`
after 429 and 503.

Within a major version members, warnings and kinds of problem are only added: ignore those you do not know.
"""

LICENCE = {"name": "Apache 2.0", "identifier": "Apache-2.0"}

SERVERS = [{"url": ".", "description": "The service that this document came from."}]

TAGS = [
    {"name": "images", "description": "Images in, probabilities or overlays out."},
    {"name": "model", "description": "What is being served."},
    {"name": "operations", "description": "Probes and metrics for those who run the service."},
]

_BINARY = {"type": "string", "format": "binary"}
_DICOM = (
    " DICOM (`application/dicom`): secondary captures and photographs of 8 bits a sample, uncompressed or as "
    "JPEG; where the server has the extra for it, else 415."
)
_IMAGE_PART = {"contentType": ", ".join(RAW_TYPES)}

IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The image, as a multipart part named `file` or as the raw body. Colours are "
        "converted from an embedded ICC profile to sRGB. A damaged file is refused with 422 where its format "
        "shows the damage; a JPEG of one scan also if its compressed data ends before the picture or goes on "
        "after it. Damage to other JPEGs, WebP, TIFF and BMP may pass unnoticed and change the answer: check "
        "files in transit." + _DICOM * ("DICOM" in ACCEPTED_FORMATS),
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}},
                "encoding": {"file": _IMAGE_PART},
            },
            **{media_type: {"schema": _BINARY} for media_type in RAW_TYPES},
        },
    }
}

BATCH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"1 to {MAX_IMAGES} images, as multipart parts all named `files`.",
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
                        }
                    },
                },
                "encoding": {"files": _IMAGE_PART},
            }
        },
    }
}

_DETAILS = {
    "malformed-request": "The body comes in chunks that are too small.",
    "headers-too-slow": "The request's headers were not complete in time.",
    "upload-too-slow": "The body came at less than 4,096 bytes per second.",
    "unauthorized": "Send one header X-API-Key with a key.",
    "forbidden": "This needs a key with the role admin.",
    "rate-limited": "This client may send 60 images a minute.",
    "body-too-large": "The request body is over the limit of 20,000,000 bytes.",
    "image-too-large": "The image is 20000 x 20000 pixels; at most 64,000,000 pixels are accepted.",
    "unsupported-media-type": "Send multipart/form-data with a part named 'file', or one of image/jpeg, …",
    "unsupported-image": f"The data is not an image of an accepted format ({', '.join(ACCEPTED_FORMATS)}).",
    "image-too-costly": "Decoding the image takes more than 5 s of processor time.",
    "corrupt-image": "The JPEG image is truncated or damaged and cannot be decoded.",
    "invalid-request": "The multipart body has no part named 'file'.",
    "internal-error": "The request could not be processed. Quote the request_id when you report this.",
    "not-ready": "The model is being loaded.",
    "overloaded": "The server is working on as many requests as it accepts.",
    "bundle-refused": "The old model goes on. model.onnx: cannot be read",
    "reload-running": "A bundle is being loaded already. Try again when that is done.",
    "deadline-passed": "The deadline passed before the answer was computed.",
}

_FAULTS = {"invalid-request": [{"detail": _DETAILS["invalid-request"], "pointer": "#/file"}]}

_TITLES = {
    400: "The request is not well-formed HTTP/1.1; the connection is closed.",
    408: "The body, or the headers, came too slowly; the connection is closed.",
    401: "API keys are configured, and `X-API-Key` is missing, wrong, or there twice.",
    403: "The key has not the role admin, or no keys are configured.",
    409: "The bundle cannot be served and the old model goes on, or another reload is running.",
    413: "The body is over the byte limit, or the image over the pixel limit.",
    415: "The bytes are no image of an accepted format, or the content type is none that is read.",
    422: "A truncated or corrupt image, one that takes too much to decode, a missing part, or a parameter "
    "that is not acceptable.",
    429: "The key's rate or its number of requests at once; `Retry-After` says when to try again.",
    500: "The model gave no usable answer.",
    503: "Too many requests or bytes at once, no memory, starting or draining; `Retry-After` says when to "
    "try again.",
    504: "The deadline passed before the answer was computed; its work was dropped.",
}

MODEL_HEADER = {
    "X-Model": {
        "description": "Name and version of the model that answered.",
        "schema": {"type": "string"},
        "example": "ham10000-ensemble/1.2.1",
    }
}

ETAG_HEADER = {
    "ETag": {
        "description": "Changes with the answer.",
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
            "description": "The `ETag` of the answer that the client has.",
            "schema": {"type": "string"},
        }
    ]
}

UNCHANGED = {
    "unchanged": {
        "operationId": "model",
        "parameters": {"header.If-None-Match": "$response.header.ETag"},
        "description": "Asked again with its `ETag`, the answer is 304 until another model is served.",
    }
}

_REQUEST_ID = {
    "description": "The request's id, for the server's log.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    "example": REQUEST_ID,
}

_REQUEST_ID_PARAMETER = {
    "name": "X-Request-ID",
    "in": "header",
    "required": False,
    "description": "An id of the client's own for this request: 1 to 64 letters, digits, `.`, `_` or `-`. "
    "Anything else is ignored, and the server makes one.",
    "schema": {"type": "string"},
}

_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"description": "`ApiKey`", "schema": {"type": "string"}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}


def answer(
    description: str, example: dict[str, Any], headers: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The ``responses`` entry of a JSON answer, whose schema FastAPI adds."""
    content = {"application/json": {"example": example}}
    return {"description": description, "content": content, "headers": headers or {}}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may answer with these statuses, an example for each kind."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        kinds = {kind.type: kind for kind in KINDS.values() if kind.status == status}
        examples = {
            name: {"value": problem(URN + name, kind.title, status, _DETAILS[name], _FAULTS.get(name))}
            for name, kind in kinds.items()
        }
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}}
        responses[status] = {"description": _TITLES[status], "content": content}
        if status in _HEADERS:
            responses[status]["headers"] = _HEADERS[status]
    return responses


IMAGE_ERRORS = errors(400, 401, 408, 413, 415, 422, 429, 500, 503, 504)


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document with what holds for all operations.

    That is the schema of problems, the request's id in both directions, and that a key is not needed where
    the service has none, but for ``/admin``.
    """
    components = document["components"]
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    components["schemas"] |= {**schema.pop("$defs"), "Problem": schema}
    batch = document["paths"]["/predict/batch"]["post"]["responses"]["200"]
    batch["content"]["application/json"]["example"] = BATCH  # with its nulls, which FastAPI leaves out
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
