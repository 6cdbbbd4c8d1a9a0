"""The parts of the OpenAPI document about the protocol that FastAPI cannot derive."""

from functools import partial
from typing import Any

from pydantic import BaseModel, Field

from service.api.examples import REQUEST_ID
from service.api.openapi import API_VERSION, MODEL_HEADER, error_responses, json_response
from service.open_inference.metadata import EXTENSIONS
from service.open_inference.request import HEADER

inference_errors = partial(error_responses, open_inference=True)

INFER_ERRORS = inference_errors(400, 404, 408, 413, 415, 422, 429, 500, 503, 504)

_NAME, _VERSION = "ham10000-ensemble", "1.3.0"


class ResponseOutput(BaseModel):
    """One output tensor."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = Field(
        default=None, description="`binary_data_size`: bytes of the tensor behind the JSON."
    )
    data: list[Any] | None = Field(default=None, description="The elements, in row-major order.")


class InferResponse(BaseModel):
    """The outputs for all images."""

    model_name: str
    model_version: str
    id: str = Field(description="That of the request, or its `X-Request-ID`.")
    outputs: list[ResponseOutput]


def _tensor(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


LIVE = json_response("The process works.", {"live": True})
READY = json_response("The server accepts requests.", {"live": True, "ready": True})
MODEL_READY = json_response("The model accepts requests.", {"name": _NAME, "ready": True})
SERVER = json_response(
    "The server.", {"name": "dermaserve", "version": API_VERSION, "extensions": list(EXTENSIONS)}
)
MODEL = json_response(
    "The inputs and outputs.",
    {
        "name": _NAME,
        "versions": [_VERSION],
        "platform": "onnxruntime_onnx",
        "inputs": [_tensor("image", "UINT8", -1, -1, -1, 3), _tensor("image_bytes", "BYTES", -1)],
        "outputs": [_tensor("probabilities", "FP64", -1, 7), _tensor("label", "BYTES", -1)],
    },
)


def _path_parameter(name: str, description: str, example: str) -> dict[str, Any]:
    schema = {"type": "string"}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": schema,
        "example": example,
    }


MODEL_PARAMETERS = [
    _path_parameter("name", "Name of the served model, as in `GET /model`.", _NAME),
    _path_parameter("version", "Version of the served model, as in `GET /model`.", _VERSION),
]

_REQUEST = {
    "inputs": [_tensor("image_bytes", "BYTES", 1) | {"data": ["/9j/4AAQSkZJRgABAQ…"]}],
    "outputs": [{"name": "label"}, {"name": "flag"}],
}
_LENGTH = {
    "description": "Size of the JSON in bytes, if tensors follow it in binary.",
    "schema": {"type": "integer"},
}
_BINARY = {"schema": {"type": "string", "format": "binary"}, "example": "the JSON, then the tensors"}

INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The images, in one of two inputs: `image`, UINT8 `[N, H, W, C]`, or `image_bytes`, "
        "BYTES `[N]`, encoded files in base64. "
        f"With the header `{HEADER}`, tensors follow the JSON in binary.",
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/InferRequest"},
                "example": _REQUEST,
            },
            "application/octet-stream": _BINARY,
        },
    }
}

INFER_LENGTH = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": _LENGTH["description"],
    "schema": {"type": "string"},
}

INFER_RESPONSE: dict[str, Any] = {
    "description": "The outputs.",
    "model": InferResponse,
    "headers": {**MODEL_HEADER, HEADER: _LENGTH},
    "content": {
        "application/json": {
            "example": {
                "model_name": _NAME,
                "model_version": _VERSION,
                "id": REQUEST_ID,
                "outputs": [
                    _tensor("label", "BYTES", 1) | {"data": ["nv"]},
                    _tensor("flag", "BYTES", 1) | {"data": ["benign"]},
                ],
            }
        },
        "application/octet-stream": _BINARY,
    },
}
