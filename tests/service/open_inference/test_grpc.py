"""The Open Inference Protocol over gRPC, against a running process; other clients are in tests/clients."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.admission.api_keys import line_of
from service.errors import InvalidRequest
from tests.service.admission.keyed import NORTH
from tests.service.process import Process, free_port, process
from tests.synthetic import encoded

grpc = pytest.importorskip("grpc", reason="the extra 'grpc' is not installed: gRPC is NOT tested")
pytest.importorskip("google.protobuf", reason="the extra 'grpc' is not installed: gRPC is NOT tested")

from service.open_inference.grpc_messages import MESSAGES, SERVICE, parse_infer  # noqa: E402

KEY = (("x-api-key", NORTH),)
MODEL = "tiny-test-bundle"
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def server(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, int]]:
    folder, port = tmp_path_factory.mktemp("grpc"), free_port()
    (folder / "keys").write_text(line_of("north", NORTH) + "\n")
    settings = {"API_KEYS_FILE": folder / "keys", "GRPC_PORT": port, "MAX_BODY_BYTES": 1_000_000}
    with process(folder, tiny, **settings) as running:
        running.wait_ready()
        yield running, port
        assert "Traceback" not in running.output()


@pytest.fixture(scope="module")
def call(server: tuple[Process, int]) -> Iterator[Call]:
    """Send a message, or bytes that may be none, and return the response."""
    with grpc.insecure_channel(f"127.0.0.1:{server[1]}") as channel:

        def send(name: str, request: bytes = b"", metadata: Any = KEY, **options: Any) -> Any:
            method = channel.unary_unary(f"/{SERVICE}/{name}")
            data = method(request, metadata=metadata, timeout=60, **options)
            return MESSAGES[f"{name}Response"].FromString(data)

        yield send


def infer_request(*files: bytes, raw: bool = False, **fields: Any) -> bytes:
    """Return a message. Protobuf appends binary tensors, whose field our class does not have, as they are."""
    tensor: dict[str, Any] = {"name": "image_bytes", "datatype": "BYTES", "shape": [len(files)]}
    if not raw:
        tensor["contents"] = {"bytes_contents": files}
    message = MESSAGES["ModelInferRequest"](**({"model_name": MODEL, "inputs": [tensor]} | fields))
    data: bytes = message.SerializeToString()
    if raw:
        content = b"".join(len(file).to_bytes(4, "little") + file for file in files)
        data += b"\x3a" + varint(len(content)) + content
    return data


def message(**fields: Any) -> bytes:
    data: bytes = MESSAGES["ModelInferRequest"](**fields).SerializeToString()
    return data


def varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def code(call: Call, *arguments: Any, **options: Any) -> Any:
    with pytest.raises(grpc.RpcError) as error:
        call(*arguments, **options)
    return error.value.code()


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_images_get_what_predict_says(
    server: tuple[Process, int], call: Call, jpeg: bytes, raw: bool, count: int
) -> None:
    headers = {"x-api-key": NORTH, "content-type": "image/jpeg"}
    right = httpx.post(f"{server[0].url}/predict", content=jpeg, headers=headers).json()
    answer = call("ModelInfer", infer_request(*[jpeg] * count, raw=raw, id="mine"))
    assert (answer.model_name, answer.model_version, answer.id) == (MODEL, "0.0.1", "mine")
    found = dict(zip([output.name for output in answer.outputs], answer.raw_output_contents, strict=True))
    assert list(np.frombuffer(found["probabilities"], "<f8")) == [*right["probabilities"].values()] * count
    assert found["flag"][4:].decode().startswith(right["malignancy"]["flag"])
    shapes = {output.name: list(output.shape) for output in answer.outputs}
    assert shapes["cams"] == [count, 7, 7, 7]


def test_health_needs_no_key_and_the_rest_does(call: Call, jpeg: bytes) -> None:
    assert call("ServerLive", metadata=()).live
    assert call("ServerReady", metadata=()).ready
    model = MESSAGES["ModelReadyRequest"](name=MODEL).SerializeToString()
    other = MESSAGES["ModelReadyRequest"](name="other").SerializeToString()
    assert call("ModelReady", model).ready
    assert not call("ModelReady", other).ready
    assert call("ServerMetadata").name == "dermaserve"
    assert [tensor.name for tensor in call("ModelMetadata", model).inputs] == ["image", "image_bytes"]
    for name in ("ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer"):
        assert code(call, name, infer_request(jpeg), metadata=()) is grpc.StatusCode.UNAUTHENTICATED


def test_refusals_have_the_code_of_their_status(call: Call, jpeg: bytes) -> None:
    codes = grpc.StatusCode
    large = encoded(Image.new("1", (9_000, 9_000)), "PNG")
    assert code(call, "ModelMetadata", infer_request(model_name="other")) is codes.NOT_FOUND
    assert code(call, "ModelInfer", infer_request(jpeg, model_name="other")) is codes.NOT_FOUND
    assert code(call, "ModelInfer", infer_request(jpeg[:3000])) is codes.INVALID_ARGUMENT
    assert code(call, "ModelInfer", b"") is codes.INVALID_ARGUMENT
    assert code(call, "ModelInfer", b"\xff" * 100) is codes.INVALID_ARGUMENT
    assert code(call, "ModelInfer", bytes(1_000_001)) is codes.RESOURCE_EXHAUSTED
    assert code(call, "ModelInfer", infer_request(large)) is codes.RESOURCE_EXHAUSTED  # as 413 of /predict
    gzip = grpc.Compression.Gzip
    assert code(call, "ModelInfer", infer_request(jpeg), compression=gzip) is codes.UNIMPLEMENTED
    assert call("ModelInfer", infer_request(jpeg)).outputs


def test_calls_are_counted_as_requests(server: tuple[Process, int], call: Call, jpeg: bytes) -> None:
    call("ModelInfer", infer_request(jpeg))
    text = httpx.get(f"{server[0].url}/metrics", headers={"x-api-key": NORTH}).text
    assert f'dermaserve_requests_total{{route="/{SERVICE}/ModelInfer",status="200"}}' in text
    assert "dermaserve_requests_in_progress 0.0" in text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x2a\x00" * 257, "more than 256 fields"),
        (b"\x2a\x82\x04" + b"\x2a\x00" * 257, "more than 256 fields"),
        (b"\x2a\x85\x92\xf4\x01\x2a" + varint(4_000_000) + bytes(4_000_000), "sent as raw_input_contents"),
        (message(id="a" * 100_000), "more than 100,000 bytes beside its tensors"),
        (message(inputs=[{"datatype": "a" * 100_000}]), "more than 100,000 bytes beside its tensors"),
        (b"\x2a" + varint(2**60), "malformed"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "malformed"),
        (b"\x3b", "malformed"),  # the start of a group
        (b"\x3a\x01", "malformed"),
        (b"\x0a\x01\xff", "malformed"),  # a name that is not UTF-8
        (infer_request(b"x") + b"\x3a\x01x" * 2, "one for each input"),
        (infer_request(b"x") + b"\x2a\x00" * 9, "inputs"),
        (message(inputs=[{"name": "image", "shape": [1] * 9}]), "shape: expected at most 8 numbers, got 9"),
        (message(parameters=[{"key": str(n)} for n in range(33)]), "parameters: expected at most 32, got 33"),
        (message(inputs=[{"parameters": [{"key": "a"}] * 33}]), "parameters: expected at most 32"),
        (message(outputs=[{"parameters": [{"key": "a"}] * 33}]), "parameters: expected at most 32"),
    ],
)
def test_a_message_that_lies_about_its_sizes_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        parse_infer(data)
