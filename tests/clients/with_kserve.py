"""KServe's inference clients for REST and gRPC.

Their documented exceptions are ``httpx.HTTPStatusError`` and ``grpc.RpcError``.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
import httpx
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

from tests.clients.facts import (
    ADDRESS,
    FILES,
    GRPC_ADDRESS,
    KEY,
    LIMITED_KEY,
    MODEL,
    PIXELS,
    REFUSALS,
    check,
    full_queue,
    objects,
)

URL = f"http://{ADDRESS}"
Refusal = (httpx.HTTPStatusError, grpc.RpcError)


def request(
    name: str, values: Any, datatype: str, *, binary: bool = True, model: str = MODEL
) -> InferRequest:
    values = objects(values) if datatype == "BYTES" else values
    tensor = InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[tensor])


async def over_rest(asked: InferRequest, headers: dict[str, str]) -> Any:
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
        return await client.infer(URL, asked, model_name=asked.model_name, headers=dict(headers))


async def over_grpc(asked: InferRequest, headers: dict[str, str]) -> Any:
    async with InferenceGRPCClient(GRPC_ADDRESS, retries=0) as client:
        return await client.infer(asked, headers=tuple(headers.items()))


Infer = Callable[[InferRequest, dict[str, str]], Awaitable[Any]]


@pytest.fixture(params=[over_rest, over_grpc])
def infer(request: pytest.FixtureRequest) -> Infer:
    found: Infer = request.param
    return found


def run(infer: Infer, asked: InferRequest, headers: dict[str, str] = KEY) -> Any:
    return asyncio.run(infer(asked, headers))  # type: ignore[arg-type]


def outputs(response: Any) -> dict[str, Any]:
    return {output.name: output.as_numpy() for output in response.outputs}


def said_by(error: Exception) -> str:
    return str(error.details() if isinstance(error, grpc.RpcError) else error)


def test_the_server_is_live_and_ready() -> None:
    async def ask() -> list[Any]:
        async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
            found = [await client.is_server_live(URL), await client.is_server_ready(URL)]
            found.append(await client.is_model_ready(URL, MODEL, headers=KEY))
            found.append(not await client.is_model_ready(URL, "other", headers=KEY))
        async with InferenceGRPCClient(GRPC_ADDRESS, retries=0) as client:
            found += [await client.is_server_live(), await client.is_server_ready()]
            return [*found, await client.is_model_ready(MODEL, headers=tuple(KEY.items()))]

    assert asyncio.run(ask()) == [True] * 7


@pytest.mark.parametrize("count", [1, len(FILES)])
def test_images_get_what_predict_says(infer: Infer, count: int) -> None:
    for asked in (("image_bytes", FILES[:count], "BYTES"), ("image", PIXELS[:count], "UINT8")):
        check(outputs(run(infer, request(*asked))), count)


@pytest.mark.parametrize("count", [1, len(FILES)])
def test_contents_get_what_predict_says(infer: Infer, count: int) -> None:
    """In JSON, or in the typed contents of a message."""
    check(outputs(run(infer, request("image", PIXELS[:count], "UINT8", binary=False))), count)
    if infer is over_rest:
        texts = [base64.b64encode(file) for file in FILES[:count]]
        check(outputs(run(infer, request("image_bytes", texts, "BYTES", binary=False))), count)


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_the_documented_exception(infer: Infer, refusal: str) -> None:
    *asked, said = REFUSALS[refusal]
    with pytest.raises(Refusal) as error:
        run(infer, request(*asked))
    over_grpc_too_large = infer is over_grpc and refusal == "too large"
    assert ("larger than max" if over_grpc_too_large else said) in said_by(error.value)


def test_keys_models_and_rates_are_told(infer: Infer) -> None:
    one = ("image", PIXELS[:1], "UINT8")
    for asked, headers, said in (
        (request(*one), {}, "X-API-Key"),
        (request(*one, model="other"), KEY, "This server has only"),
    ):
        with pytest.raises(Refusal) as error:
            run(infer, asked, headers)
        assert said in said_by(error.value)
    with suppress(*Refusal):  # the first call of this key is within its rate
        run(infer, request(*one), LIMITED_KEY)
    with pytest.raises(Refusal) as error:
        run(infer, request(*one), LIMITED_KEY)
    assert "images per minute" in said_by(error.value)


def test_overload_is_told(infer: Infer) -> None:
    asked = request("image", PIXELS[:1], "UINT8")
    with full_queue(lambda: run(infer, request("image", PIXELS[:1], "UINT8"))):
        with pytest.raises(Refusal) as error:
            run(infer, asked)
        assert "limit of requests in progress" in said_by(error.value)


def test_a_malformed_request_is_told() -> None:
    async def ask(data: dict[str, Any]) -> None:
        async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
            await client.infer(URL, data, model_name=MODEL, headers=dict(KEY))

    with pytest.raises(httpx.HTTPStatusError, match="inputs: Field required"):
        asyncio.run(ask({"instances": []}))
