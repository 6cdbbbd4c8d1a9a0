"""Parses the body of an inference request: JSON, which may be followed by the tensors in binary.

The values of the JSON are limited before it is parsed: 20 MB of ``[],[],…`` would take half a gigabyte as
objects, and seconds on the event loop.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from service.errors import BodyTooLarge, InvalidRequest

HEADER = "Inference-Header-Content-Length"
"""Header of a body with binary tensors: the size of its JSON in bytes."""

_MAX_OF = {b",": 1_200_000, b"[": 300_000, b"{": 512, b":": 2048, b'"': 4096}
"""Most of each mark in the JSON. An image of 600 × 450 may come as numbers, in a list for each pixel. Texts
and objects cost the most, and a request needs few."""

_Size = Annotated[int, Field(ge=1, le=2**31 - 1)]
_Name = Annotated[str, Field(max_length=64)]


def _nullable(type_: Any, empty: Callable[[], Any]) -> BeforeValidator:
    """Take null for ``empty()``: some clients send every member."""
    return BeforeValidator(
        lambda value: empty() if value is None else value, json_schema_input_type=type_ | None
    )


_Parameters = Annotated[dict[str, Any], _nullable(dict[str, Any], dict)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class RequestInput(_Part):
    """One input tensor, with its elements in ``data`` or behind the JSON."""

    name: _Name = Field(examples=["image_bytes"])
    shape: list[_Size] = Field(max_length=8, examples=[[1]])
    datatype: _Name = Field(examples=["BYTES"])
    parameters: _Parameters = Field(
        default_factory=dict,
        description="`binary_data_size`: bytes of the tensor behind the JSON. `content_type`: `base64` if "
        "the elements of a binary `image_bytes` are base64.",
    )
    data: list[Any] | None = Field(
        default=None,
        description="The elements, in row-major order, flat or nested. Elements of `BYTES` are base64.",
    )


class RequestOutput(_Part):
    """One output that the client asks for."""

    name: _Name = Field(examples=["label"])
    parameters: _Parameters = Field(
        default_factory=dict, description="`binary_data`: true returns this output behind the JSON."
    )


class InferRequest(_Part):
    """An inference request."""

    id: str | None = Field(default=None, max_length=256, description="Returned in the response.")
    parameters: _Parameters = Field(
        default_factory=dict,
        description="`metadata`: age, sex and site of the images, as the text of a JSON array with one "
        "object or null for each. `binary_data_output`: true returns all outputs behind the JSON.",
    )
    inputs: list[RequestInput] = Field(max_length=8)
    outputs: Annotated[list[RequestOutput], _nullable(list[RequestOutput], list)] = Field(
        default_factory=list, max_length=32, description="Without any, all outputs are returned."
    )


class Tensor(NamedTuple):
    """An input tensor.

    Attributes:
        name, datatype, shape: as the client sent them.
        base64: whether the elements of ``raw`` or ``values`` that are bytes are base64.
        raw: the binary form of the elements, or None.
        values: the elements, if ``raw`` is None: numbers or lists of them, texts in base64, or bytes.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    base64: bool
    raw: memoryview | None
    values: Sequence[Any] = ()


def parse_request(body: bytes, header: Sequence[str]) -> tuple[InferRequest, list[Tensor]]:
    """Parse a body.

    Args:
        body: the whole body.
        header: the values of all headers named ``HEADER``.

    Raises:
        InvalidRequest: the body is malformed.
        BodyTooLarge: the JSON has too many values.
    """
    size = _json_size(header, len(body))
    text = body[:size]
    if any(text.count(mark) > most for mark, most in _MAX_OF.items()):
        raise BodyTooLarge("The JSON has too many values. Send the tensors in binary.")
    try:
        # Half of what pydantic takes to parse and validate in one step.
        found = from_json(text, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        raise malformed(f"The body is not JSON: {error}.") from None
    request = validated(found)
    return request, _tensors(request.inputs, memoryview(body)[size:])


def validated(found: Any) -> InferRequest:
    """Check the members of a request.

    Raises:
        InvalidRequest: a member is missing or not valid.
    """
    try:
        return InferRequest.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        fault = ": ".join(filter(None, [_place(first["loc"]), first["msg"]]))
    # Outside the handler: the cause would hold the values.
    raise malformed(fault)


def malformed(detail: str) -> InvalidRequest:
    """Return the exception for a body with the fault ``detail``."""
    return InvalidRequest(detail, pointer="#")


def _json_size(header: Sequence[str], size: int) -> int:
    if not header:
        return size
    if len(header) > 1 or not re.fullmatch("[0-9]{1,10}", header[0]) or int(header[0]) > size:
        raise malformed(f"{HEADER}: expected one number of bytes, at most the size of the body.")
    return int(header[0])


def _tensors(inputs: Sequence[RequestInput], binary: memoryview) -> list[Tensor]:
    """Give each input its part of the ``binary`` data, which they must use up."""
    tensors = []
    for tensor in inputs:
        if "shared_memory_region" in tensor.parameters:
            raise malformed(f"{tensor.name}: shared memory is not supported.")
        size, raw = tensor.parameters.get("binary_data_size"), None
        if (size is None) == (tensor.data is None):
            raise malformed(f"{tensor.name}: expected either data or the parameter binary_data_size.")
        if size is not None:
            if type(size) is not int or not 0 <= size <= len(binary):
                raise malformed(f"{tensor.name}: binary_data_size does not match the body.")
            raw, binary = binary[:size], binary[size:]
        encoded = tensor.parameters.get("content_type") == "base64"
        shape, values = tensor.shape, tensor.data or ()
        tensors.append(Tensor(tensor.name, tensor.datatype, shape, encoded, raw, values))
    if len(binary):
        raise malformed(f"The body has {len(binary):,} bytes that belong to no input.")
    return tensors


def _place(location: Sequence[int | str]) -> str:
    """Write a location of pydantic as ``inputs[0].shape``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
