"""The messages of ``inference.GRPCInferenceService``, built from their descriptions; no code is generated.

Field names and numbers are those of ``open_inference_grpc.proto``.
"""

from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from service.open_inference.request import InferRequest, Tensor, malformed, validated

SERVICE = "inference.GRPCInferenceService"

_TENSOR = "name:1:string datatype:2:string shape:3:*int64"
_PARAMETERS = "*ParametersEntry"
_FIELDS = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:1:bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:1:bool",
    "ModelReadyRequest": "name:1:string version:2:string",
    "ModelReadyResponse": "ready:1:bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:1:string version:2:string extensions:3:*string",
    "ModelMetadataRequest": "name:1:string version:2:string",
    "TensorMetadata": _TENSOR,
    "ModelMetadataResponse": "name:1:string versions:2:*string platform:3:string inputs:4:*TensorMetadata "
    "outputs:5:*TensorMetadata",
    "InferParameter": "bool_param:1:bool int64_param:2:int64 string_param:3:string double_param:4:double "
    "uint64_param:5:uint64",
    # On the wire, a map is a repeated message of a key and a value.
    "ParametersEntry": "key:1:string value:2:InferParameter",
    # Contents of the other datatypes are unknown fields, which are not parsed.
    "InferTensorContents": "uint_contents:4:*uint32 bytes_contents:8:*bytes",
    "InferInputTensor": f"{_TENSOR} parameters:4:{_PARAMETERS} contents:5:InferTensorContents",
    "InferRequestedOutputTensor": f"name:1:string parameters:2:{_PARAMETERS}",
    "ModelInferRequest": f"model_name:1:string model_version:2:string id:3:string parameters:4:{_PARAMETERS} "
    "inputs:5:*InferInputTensor outputs:6:*InferRequestedOutputTensor",
    "InferOutputTensor": _TENSOR,
    "ModelInferResponse": "model_name:1:string model_version:2:string id:3:string "
    "outputs:5:*InferOutputTensor raw_output_contents:6:*bytes",
}
"""Each message with its fields as ``name:number:type``. ``*`` stands for repeated."""

_INPUT, _CONTENTS, _RAW_INPUT = 5, 5, 7
_MAX_FIELDS = 256
_MAX_CONTENTS = 4_000_000
_MAX_OTHER = 100_000
_MAX_SHAPE = 8
_MAX_PARAMETERS = 32


def _build() -> dict[str, Any]:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="dermaserve.proto", package="inference", syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for name_, number, kind in (text.split(":") for text in fields.split()):
            type_ = kind.removeprefix("*")
            of_message = {"type_name": f".inference.{type_}"} if type_ in _FIELDS else {}
            message.field.add(
                name=name_,
                number=int(number),
                label=field.LABEL_REPEATED if kind != type_ else field.LABEL_OPTIONAL,
                type=getattr(field, f"TYPE_{'MESSAGE' if of_message else type_.upper()}"),
                **of_message,
            )
    parameter = next(message for message in file.message_type if message.name == "InferParameter")
    parameter.oneof_decl.add(name="parameter_choice")
    for choice in parameter.field:
        choice.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = (pool.FindMessageTypeByName(f"inference.{name}") for name in _FIELDS)
    return {each.name: message_factory.GetMessageClass(each) for each in found}


MESSAGES = _build()
"""Message classes by name."""


def parse(name: str, data: bytes) -> Any:
    """Parse a message.

    Raises:
        InvalidRequest: it is malformed.
    """
    try:
        return MESSAGES[name].FromString(data)
    except (DecodeError, UnicodeDecodeError):
        raise malformed("The message is malformed.") from None


def parse_infer(data: bytes) -> tuple[Any, InferRequest, list[Tensor]]:
    """Parse a ``ModelInferRequest``. Return it, and what it asks for.

    Raises:
        InvalidRequest: it is malformed.
    """
    rest, raw = _split(data)
    message = parse("ModelInferRequest", rest)
    inputs = [
        {
            "name": tensor.name,
            "shape": _shape(tensor.shape),
            "datatype": tensor.datatype,
            "parameters": _parameters(tensor.parameters),
        }
        for tensor in message.inputs
    ]
    outputs = [
        {"name": output.name, "parameters": _parameters(output.parameters)} for output in message.outputs
    ]
    request = validated(
        {
            "id": message.id or None,
            "parameters": _parameters(message.parameters),
            "inputs": inputs,
            "outputs": outputs,
        }
    )
    if raw and len(raw) != len(inputs):
        raise malformed("raw_input_contents: expected one for each input.")
    tensors = []
    for index, (found, sent) in enumerate(zip(message.inputs, request.inputs, strict=True)):
        if "shared_memory_region" in sent.parameters:
            raise malformed(f"{sent.name}: shared memory is not supported.")
        encoded = sent.parameters.get("content_type") == "base64"
        contents = found.contents.bytes_contents if sent.datatype == "BYTES" else found.contents.uint_contents
        part = raw[index] if raw else None
        tensors.append(Tensor(sent.name, sent.datatype, sent.shape, encoded, part, contents))
    return message, request, tensors


def _shape(sizes: Any) -> list[int]:
    # Checked before the conversion: a few bytes of a message become a Python object each.
    if len(sizes) > _MAX_SHAPE:
        raise malformed(f"shape: expected at most {_MAX_SHAPE} numbers, got {len(sizes):,}.")
    return list(sizes)


def _parameters(entries: Any) -> dict[str, Any]:
    if len(entries) > _MAX_PARAMETERS:
        raise malformed(f"parameters: expected at most {_MAX_PARAMETERS}, got {len(entries):,}.")
    found = {entry.key: entry.value for entry in entries}
    chosen = {key: value.WhichOneof("parameter_choice") for key, value in found.items()}
    return {key: getattr(found[key], choice) for key, choice in chosen.items() if choice}


def _split(data: bytes) -> tuple[bytes, list[memoryview]]:
    """Return a message without its binary tensors, and these.

    So the tensors are not copied. The rest is limited, because it takes up to forty times its size when it is
    parsed. What is not ``contents`` needs few bytes.
    """
    view = memoryview(data)
    rest, raw = [], []
    contents = 0
    for number, start, content, end in _fields(view):
        if number == _RAW_INPUT and content is not None:
            raw.append(view[content:end])
            continue
        rest.append(view[start:end])
        if number == _INPUT and content is not None:
            fields = _fields(view[content:end])
            contents += sum(stop - begin for field, begin, _, stop in fields if field == _CONTENTS)
    if contents > _MAX_CONTENTS:
        raise malformed(f"Contents of more than {_MAX_CONTENTS:,} bytes must be sent as raw_input_contents.")
    if sum(map(len, rest)) - contents > _MAX_OTHER:
        raise malformed(f"The message has more than {_MAX_OTHER:,} bytes beside its tensors.")
    return b"".join(rest), raw


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | None, int]]:
    """Yield number, start, start of the content if it has a length, and end of each field."""
    at = count = 0
    while at < len(data):
        if (count := count + 1) > _MAX_FIELDS:
            raise malformed(f"A message has more than {_MAX_FIELDS} fields.")
        start = at
        tag, at = _varint(data, at)
        content = None
        match tag & 7:
            case 0:
                _, at = _varint(data, at)
            case 1:
                at += 8
            case 2:
                size, content = _varint(data, at)
                at = content + size
            case 5:
                at += 4
            case _:
                raise malformed("The message is malformed.")
        if at > len(data):
            raise malformed("The message is malformed.")
        yield tag >> 3, start, content, at


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte, at = data[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise malformed("The message is malformed.")
