"""Turns the input tensor of a request into image files for the decoder.

Decoded pixels become uncompressed TIFF files. So they go through the same decoder, limits and warnings as a
file with these pixels.
"""

import binascii
import struct
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from service.api.upload import MAX_IMAGES
from service.open_inference.request import Tensor, malformed

IMAGE, IMAGE_BYTES = "image", "image_bytes"
"""The inputs: decoded pixels, uint8 ``[N, H, W, C]``, or encoded files, BYTES ``[N]``."""

_LENGTH = struct.Struct("<I")


def image_files(tensors: Sequence[Tensor], channels: int) -> list[bytes]:
    """Return the images of a request as files.

    Args:
        tensors: must be one.
        channels: of the model's input.

    Raises:
        InvalidRequest: it is neither of the inputs, or its elements do not match its shape.
    """
    if len(tensors) != 1 or tensors[0].name not in (IMAGE, IMAGE_BYTES):
        raise malformed(f"inputs: expected one of {IMAGE} and {IMAGE_BYTES}.")
    (tensor,) = tensors
    return _pixels(tensor, channels) if tensor.name == IMAGE else _files(tensor)


def _pixels(tensor: Tensor, channels: int) -> list[bytes]:
    _check(tensor, "UINT8", f"[N, H, W, {channels}]", len(tensor.shape) == 4 and tensor.shape[-1] == channels)
    count, height, width, _ = tensor.shape
    size = height * width * channels
    data = _bytes(tensor) if tensor.raw is None else tensor.raw
    if len(data) != count * size:
        raise malformed(f"{IMAGE}: the shape needs {count * size:,} bytes, got {len(data):,}.")
    head = _tiff_head(height, width, channels)
    return [b"".join([head, data[at : at + size]]) for at in range(0, len(data), size)]


def _files(tensor: Tensor) -> list[bytes]:
    # MLServer's codec of base64 sends [N, 1].
    _check(tensor, "BYTES", "[N]", len(tensor.shape) == 1 or list(tensor.shape[1:]) == [1])
    found = _nested(tensor, tensor.shape) if tensor.raw is None else _split(tensor.raw)
    elements = list(islice(found, MAX_IMAGES + 1))
    if len(elements) != tensor.shape[0]:
        raise malformed(f"{IMAGE_BYTES}: the shape needs {tensor.shape[0]} elements, got another number.")
    return [_file(element, index, tensor.base64) for index, element in enumerate(elements)]


def _check(tensor: Tensor, datatype: str, shape: str, fits: bool) -> None:
    if tensor.datatype != datatype:
        raise malformed(f"{tensor.name}: expected the datatype {datatype}.")
    if not fits or not 1 <= tensor.shape[0] <= MAX_IMAGES:
        got = list(tensor.shape)
        raise malformed(
            f"{tensor.name}: expected the shape {shape} with N from 1 to {MAX_IMAGES}, got {got}."
        )


def _bytes(tensor: Tensor) -> memoryview:
    try:
        return memoryview(bytes(_nested(tensor, tensor.shape)))
    except (TypeError, ValueError):
        pass
    raise malformed(f"{tensor.name}: expected whole numbers from 0 to 255.")


def _nested(tensor: Tensor, shape: Sequence[int]) -> Sequence[Any]:
    """Return the elements as a flat sequence. They may be nested in lists as the shape says."""
    values = tensor.values
    if not values or not isinstance(values[0], list):
        return values
    if len(values) == shape[0]:
        for inner in shape[1:]:
            if not all(isinstance(part, list) and len(part) == inner for part in values):
                break
            values = list(chain.from_iterable(values))
        else:
            return values
    raise malformed(f"{tensor.name}: expected data that is flat, or nested as the shape says.")


def _split(data: memoryview) -> Iterator[memoryview]:
    """Yield the elements of a binary BYTES tensor. Each comes after its length."""
    at = 0
    while at < len(data):
        head, at = data[at : at + _LENGTH.size], at + _LENGTH.size
        size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else len(data)
        element, at = data[at : at + size], at + size
        if len(element) < size:
            raise malformed(f"{IMAGE_BYTES}: the length of an element is beyond the end of the tensor.")
        yield element


def _file(element: Any, index: int, encoded: bool) -> bytes:
    fault = "expected base64"
    try:
        if encoded or not isinstance(element, bytes | memoryview):
            element = binascii.a2b_base64(element, strict_mode=True)
        if len(element):
            return bytes(element)
        fault = "is empty; expected an image"
    except (TypeError, ValueError):
        pass
    raise malformed(f"{IMAGE_BYTES}[{index}]: {fault}.")


def _tiff_head(height: int, width: int, channels: int) -> bytes:
    """Return an uncompressed TIFF file without its samples, which follow it (TIFF 6.0, sections 2 to 6)."""
    short, long = 3, 4
    samples_at = 8 + 2 + 9 * 12 + 4 + 2 * channels
    bits_at = samples_at - 2 * channels
    entries = [
        (256, long, 1, width),
        (257, long, 1, height),
        (258, short, channels, bits_at if channels > 1 else 8),
        (259, short, 1, 1),  # no compression
        (262, short, 1, 2 if channels == 3 else 1),  # RGB, or grey with black as 0
        (273, long, 1, samples_at),
        (277, short, 1, channels),
        (278, long, 1, height),  # rows of the only strip
        (279, long, 1, height * width * channels),
    ]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    bits = struct.pack(f"<{channels}H", *[8] * channels)
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + directory + bytes(4) + bits
