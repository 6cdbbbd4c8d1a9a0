"""``tritonclient`` over HTTP and gRPC. Its documented exception is ``InferenceServerException``."""

import base64
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from tests.clients.facts import (
    ADDRESS,
    FILES,
    GRPC_ADDRESS,
    KEY,
    LIMITED_KEY,
    MODEL,
    PIXELS,
    REFUSALS,
    VERSION,
    check,
    full_queue,
    objects,
)

NAMES = ["probabilities", "malignancy", "flag", "label"]
NUMBERS = {
    "probabilities": np.float64,
    "malignancy": np.float64,
    "ood_score": np.float32,
    "cams": np.float32,
}


@pytest.fixture(params=["http", "grpc"])
def library(request: pytest.FixtureRequest) -> Any:
    return {"http": tritonclient.http, "grpc": tritonclient.grpc}[request.param]


@pytest.fixture
def connect(library: Any) -> Iterator[Callable[[], Any]]:
    """Return a function that opens a client. A client belongs to one thread."""
    address = ADDRESS if library is tritonclient.http else GRPC_ADDRESS
    clients: list[Any] = []

    def open_client() -> Any:
        clients.append(library.InferenceServerClient(address))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


def tensor(library: Any, name: str, values: Any, datatype: str) -> Any:
    values = objects(values) if datatype == "BYTES" else values
    found = library.InferInput(name, list(values.shape), datatype)
    found.set_data_from_numpy(values)
    return found


def infer(
    library: Any, client: Any, *request: Any, headers: Any = KEY, model: str = MODEL, **options: Any
) -> Any:
    # A copy: over HTTP the client adds its own headers to the dictionary.
    return client.infer(model, [tensor(library, *request)], headers=dict(headers), **options)


def outputs(result: Any) -> dict[str, Any]:
    return {name: result.as_numpy(name) for name in NAMES}


def test_server_and_model_are_ready_and_described(library: Any, connect: Callable[[], Any]) -> None:
    client = connect()
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL, headers=KEY)
    assert client.is_model_ready(MODEL, VERSION, headers=KEY)
    assert not client.is_model_ready(MODEL, "9.9.9", headers=KEY)
    options = {} if library is tritonclient.http else {"as_json": True}
    assert client.get_server_metadata(headers=KEY, **options)["name"] == "dermaserve"
    metadata = client.get_model_metadata(MODEL, headers=KEY, **options)
    assert [found["name"] for found in metadata["inputs"]] == ["image", "image_bytes"]
    assert {found["name"] for found in metadata["outputs"]} >= set(NAMES)


@pytest.mark.parametrize("count", [1, len(FILES)])
def test_images_get_what_predict_says(library: Any, connect: Callable[[], Any], count: int) -> None:
    client = connect()
    for request in (("image_bytes", FILES[:count], "BYTES"), ("image", PIXELS[:count], "UINT8")):
        check(outputs(infer(library, client, *request)), count)
        wanted = [library.InferRequestedOutput(name) for name in NAMES]
        result = infer(library, client, *request, outputs=wanted, request_id="mine", model_version=VERSION)
        check(outputs(result), count)
        assert result.as_numpy("cams") is None


def test_http_in_json_gets_what_predict_says() -> None:
    client = tritonclient.http.InferenceServerClient(ADDRESS)
    texts = objects([base64.b64encode(file) for file in FILES])
    files = tritonclient.http.InferInput("image_bytes", [len(FILES)], "BYTES")
    files.set_data_from_numpy(texts, binary_data=False)
    pixels = tritonclient.http.InferInput("image", list(PIXELS.shape), "UINT8")
    pixels.set_data_from_numpy(PIXELS, binary_data=False)
    wanted = [tritonclient.http.InferRequestedOutput(name, binary_data=False) for name in NAMES]
    for request in (files, pixels):
        check(outputs(client.infer(MODEL, [request], outputs=wanted, headers=dict(KEY))), len(FILES))
    client.close()


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_the_documented_exception(
    library: Any, connect: Callable[[], Any], refusal: str
) -> None:
    *request, said = REFUSALS[refusal]
    client = connect()
    with pytest.raises(InferenceServerException) as error:
        infer(library, client, *request)
    over_grpc_too_large = library is tritonclient.grpc and refusal == "too large"
    assert ("larger than max" if over_grpc_too_large else said) in error.value.message()
    check(outputs(infer(library, client, "image", PIXELS, "UINT8")), len(PIXELS))


def test_keys_models_and_rates_are_told(library: Any, connect: Callable[[], Any]) -> None:
    client, one = connect(), ("image", PIXELS[:1], "UINT8")
    over_http = library is tritonclient.http
    cases: list[tuple[dict[str, Any], str, str, str]] = [
        ({"headers": {}}, "X-API-Key", "401", "StatusCode.UNAUTHENTICATED"),
        ({"model": "other"}, "This server has only", "404", "StatusCode.NOT_FOUND"),
        ({"model_version": "9.9.9"}, "This server has only", "404", "StatusCode.NOT_FOUND"),
    ]
    for options, said, status, code in cases:
        with pytest.raises(InferenceServerException, match=said) as error:
            infer(library, client, *one, **options)
        assert error.value.status() == (status if over_http else code)
    with suppress(InferenceServerException):  # the first call of this key is within its rate
        infer(library, client, *one, headers=LIMITED_KEY)
    with pytest.raises(InferenceServerException, match="images per minute") as error:
        infer(library, client, *one, headers=LIMITED_KEY)
    assert error.value.status() == ("429" if over_http else "StatusCode.RESOURCE_EXHAUSTED")


def test_overload_is_told(library: Any, connect: Callable[[], Any]) -> None:
    one = ("image", PIXELS[:1], "UINT8")
    client = connect()
    with full_queue(lambda: infer(library, connect(), *one)):
        with pytest.raises(InferenceServerException, match="limit of requests in progress") as error:
            infer(library, client, *one)
        assert error.value.status() == ("503" if library is tritonclient.http else "StatusCode.UNAVAILABLE")
    check(outputs(infer(library, client, *one)), 1)


@pytest.mark.parametrize(
    ("body", "length", "said"),
    [
        (b"{", None, "The body is not JSON"),
        (b'{"inputs": []}', 15, "expected one number of bytes"),
        (b'{"inputs": []}', 3, "The body is not JSON"),
    ],
)
def test_a_malformed_body_is_told(body: bytes, length: int | None, said: str) -> None:
    client = tritonclient.http.InferenceServerClient(ADDRESS)
    headers = KEY | ({} if length is None else {"Inference-Header-Content-Length": str(length)})
    response = client._post(f"v2/models/{MODEL}/infer", body, headers, None)
    with pytest.raises(InferenceServerException, match=said):
        tritonclient.http._utils._raise_if_error(response)
    client.close()


def test_elements_in_binary_are_those_of_the_json(library: Any, connect: Callable[[], Any]) -> None:
    binary = infer(library, connect(), "image", PIXELS, "UINT8")
    http = tritonclient.http
    with http.InferenceServerClient(ADDRESS) as client:
        wanted = [http.InferRequestedOutput(name, binary_data=False) for name in NUMBERS]
        text = infer(http, client, "image", PIXELS, "UINT8", outputs=wanted)
    for name, datatype in NUMBERS.items():
        assert binary.as_numpy(name).dtype == text.as_numpy(name).dtype == datatype
        np.testing.assert_array_equal(binary.as_numpy(name), text.as_numpy(name))
