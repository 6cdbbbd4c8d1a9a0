"""Builds requests of the Open Inference Protocol by hand, and reads the responses."""

import base64
import json
import struct
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

HEADER = "inference-header-content-length"
MODEL = "/v2/models/tiny-test-bundle"
INFER = f"{MODEL}/infer"


def files_input(*files: bytes, **changes: Any) -> dict[str, Any]:
    """Return an input ``image_bytes`` in base64."""
    data = [base64.b64encode(file).decode() for file in files]
    return {"name": "image_bytes", "shape": [len(files)], "datatype": "BYTES", "data": data} | changes


def pixels_input(pixels: NDArray[np.uint8], **changes: Any) -> dict[str, Any]:
    """Return an input ``image`` as a flat list of numbers."""
    data = pixels.reshape(-1).tolist()
    return {"name": "image", "shape": list(pixels.shape), "datatype": "UINT8", "data": data} | changes


def elements(*files: bytes) -> bytes:
    """Return the binary form of a BYTES tensor."""
    return b"".join(struct.pack("<I", len(file)) + file for file in files)


def in_binary(tensor: dict[str, Any], raw: bytes, **request: Any) -> dict[str, Any]:
    """Return the body and the header of a request whose input comes in binary, for httpx."""
    tensor = {name: value for name, value in tensor.items() if name != "data"}
    tensor = {"parameters": {"binary_data_size": len(raw)}} | tensor
    text = json.dumps({"inputs": [tensor], **request}).encode()
    return {"content": text + raw, "headers": {HEADER: str(len(text))}}


def found(response: httpx.Response) -> dict[str, Any]:
    """Return the outputs by name: texts, or numbers in their shape."""
    assert response.status_code == 200, response.text
    size = int(response.headers.get(HEADER, len(response.content)))
    body, binary = json.loads(response.content[:size]), response.content[size:]
    outputs = {}
    for output in body["outputs"]:
        datatype, shape = output["datatype"], output["shape"]
        if "data" in output:
            data = output["data"]
        else:
            raw = binary[: output["parameters"]["binary_data_size"]]
            binary = binary[len(raw) :]
            data = _texts(raw) if datatype == "BYTES" else np.frombuffer(raw, _DTYPES[datatype])
        outputs[output["name"]] = list(data) if datatype == "BYTES" else np.reshape(data, shape)
        assert len(outputs[output["name"]]) == shape[0]
    assert not binary
    return outputs


_DTYPES = {"FP32": "<f4", "FP64": "<f8"}


def _texts(raw: bytes) -> list[str]:
    texts = []
    while raw:
        (size,) = struct.unpack_from("<I", raw)
        texts.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return texts


def assert_same(outputs: dict[str, Any], predictions: list[dict[str, Any]]) -> None:
    """Check that all outputs say of each image what ``POST /predict`` says.

    Numbers may differ in their last digits: ONNX Runtime rounds differently in batches of another size.
    """
    assert len(outputs["label"]) == len(predictions)
    for index, prediction in enumerate(predictions):
        probabilities = list(prediction["probabilities"].values())
        assert list(outputs["probabilities"][index]) == pytest.approx(probabilities, abs=1e-6)
        assert outputs["label"][index] == prediction["prediction"]["label"]
        malignancy = pytest.approx(prediction["malignancy"]["probability"], abs=1e-6)
        assert outputs["malignancy"][index] == malignancy
        assert outputs["flag"][index] == prediction["malignancy"]["flag"]
        codes = ",".join(warning["code"] for warning in prediction["warnings"])
        assert outputs["warnings"][index] == codes
        for name in ("disagreement", "ood_score"):
            assert outputs[name][index] == pytest.approx(prediction["uncertainty"][name], abs=1e-6)


def assert_error(response: httpx.Response, status: int, said: str) -> None:
    """Check an error as clients of the protocol read it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert said in body["error"], body
    assert body["detail"] == body["error"]
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    for leak in ("Traceback", "Error", "PIL", "onnx"):
        assert leak not in body["error"], body
