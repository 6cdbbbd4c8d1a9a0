"""MLServer's codecs and message types, sent by httpx. Errors are its ``APIErrorResponse``."""

from typing import Any

import httpx
import numpy as np
import pytest
from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec
from mlserver.rest.errors import APIErrorResponse
from mlserver.types import (
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataServerResponse,
    RequestInput,
)

from tests.clients.facts import ADDRESS, FILES, KEY, MODEL, PIXELS, REFUSALS, check

URL = f"http://{ADDRESS}/v2"


def infer(*inputs: RequestInput, **options: Any) -> httpx.Response:
    body = InferenceRequest(inputs=list(inputs)).model_dump_json()
    headers = options.pop("headers", KEY) | {"content-type": "application/json"}
    return httpx.post(f"{URL}/models/{options.pop('model', MODEL)}/infer", content=body, headers=headers)


def outputs(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found = InferenceResponse.model_validate_json(response.content)
    return {
        output.name: (StringCodec if output.datatype == "BYTES" else NumpyCodec).decode_output(output)
        for output in found.outputs
    }


@pytest.mark.parametrize("count", [1, len(FILES)])
def test_images_get_what_predict_says(count: int) -> None:
    check(outputs(infer(Base64Codec.encode_input("image_bytes", FILES[:count]))), count)
    check(outputs(infer(Base64Codec.encode_input("image_bytes", FILES[:count], use_bytes=False))), count)
    check(outputs(infer(NumpyCodec.encode_input("image", PIXELS[:count]))), count)


def test_the_descriptions_are_what_mlserver_reads() -> None:
    server = httpx.get(URL, headers=KEY).content
    assert MetadataServerResponse.model_validate_json(server).name == "dermaserve"
    model = httpx.get(f"{URL}/models/{MODEL}", headers=KEY).content
    found = MetadataModelResponse.model_validate_json(model)
    assert [tensor.name for tensor in found.inputs or []] == ["image", "image_bytes"]


@pytest.mark.parametrize("refusal", sorted(set(REFUSALS) - {"too large"}))
def test_a_refusal_is_the_error_that_mlserver_reads(refusal: str) -> None:
    name, values, datatype, said = REFUSALS[refusal]
    codec = Base64Codec if datatype == "BYTES" else NumpyCodec
    response = infer(codec.encode_input(name, values))
    assert response.status_code >= 400
    assert said in str(APIErrorResponse.model_validate_json(response.content).error)


def test_size_keys_and_models_are_told() -> None:
    large = NumpyCodec.encode_input("image", np.full((1, 600, 500, 3), 200, np.uint8))
    one = Base64Codec.encode_input("image_bytes", FILES[:1])
    for response, status, said in (
        (infer(large), 413, "larger than the limit of 2,000,000 bytes"),
        (infer(one, headers={}), 401, "X-API-Key"),
        (infer(one, model="other"), 404, "This server has only"),
    ):
        assert response.status_code == status
        assert said in str(APIErrorResponse.model_validate_json(response.content).error)
