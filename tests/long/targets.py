"""What is fuzzed: each takes bytes, names the outcome, and raises whatever must not happen."""

import asyncio
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from random import Random
from typing import Any

import numpy as np
from starlette.requests import Request

from models.errors import ImageError
from models.preprocess import ACCEPTED_FORMATS, decode
from service.errors import RequestError
from service.gate import Gate
from service.upload import UploadLimits, read_images
from tests.long.drawn import drawn_dicoms, drawn_files
from tests.long.mutations import mutate

MAX_PIXELS = 4_000_000
"""Small, so that what takes more memory than a limit of pixels allows stands out."""

_BOUNDARY = "f2a9"


def decoding(data: bytes) -> str:
    """``models.preprocess.decode``: a whole picture, or an ImageError."""
    try:
        found = decode(data, max_pixels=MAX_PIXELS)
    except ImageError as error:
        return type(error).__name__
    assert found.pixels.shape == (224, 224, 3), found.pixels.shape
    assert found.pixels.dtype == np.uint8
    assert found.format in ACCEPTED_FORMATS
    assert found.width > 0
    assert found.height > 0
    # Pixels that a damaged file leaves out must not show what was in memory before.
    np.testing.assert_array_equal(found.pixels, decode(data, max_pixels=MAX_PIXELS).pixels)
    return f"decoded {found.format}"


def parsing(data: bytes) -> str:
    """``service.upload``: parts that were in the body, or a RequestError."""
    chunks = [data[at : at + 1500] for at in range(0, len(data), 1500)] or [b""]
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages[-1]["more_body"] = False

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    headers = [
        (b"content-type", f"multipart/form-data; boundary={_BOUNDARY}".encode()),
        (b"content-length", str(len(data)).encode()),
    ]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    limit = 10_000_000
    try:
        with Gate(max_requests=1, max_body_bytes=limit).reserve(0) as reservation:
            parts = asyncio.run(read_images(request, UploadLimits(limit, 0, 60), reservation))
    except RequestError as error:
        return type(error).__name__
    assert parts
    assert all(part.data in data for part in parts)
    return "parts"


def forms(images: list[bytes]) -> list[bytes]:
    """Multipart bodies as clients send them."""

    def part(headers: str, content: bytes) -> bytes:
        return f"--{_BOUNDARY}\r\n{headers}\r\n\r\n".encode() + content + b"\r\n"

    name = 'Content-Disposition: form-data; name="files"; filename="{}"\r\nContent-Type: image/jpeg'
    small = images[0][:600]
    nested = part("Content-Type: multipart/mixed; boundary=in", b"--in\r\n\r\n--in--\r\n")
    end = f"--{_BOUNDARY}--\r\n".encode()
    return [
        part(name.format("a.jpg"), small) + end,
        part(name.format("ä; b.jpg"), small) + part('Content-Disposition: form-data; name="x"', b"1") + end,
        part(name.format("a.jpg"), small) * 3 + nested + end,
        part("content-disposition: form-data; name=files", b"\r\n--f2a\r\n--f2a9x" + small) + end,
    ]


Found = Mapping[str, tuple[Callable[[bytes], str], list[bytes]]]
"""Each target by its name, with the files that its inputs are made of."""


def targets(seed: int) -> Found:
    """All there are, with files drawn from ``seed``."""
    images = list(drawn_files(seed, 96, 72).values())
    found: Found = {"decode": (decoding, images), "multipart": (parsing, forms(images))}
    if find_spec("pydicom"):
        found = {**found, "dicom": (decoding, list(drawn_dicoms(seed, 96, 72).values()))}
    return found


def input_of(seed: int, index: int, found: Found) -> tuple[str, bytes]:
    """Which target gets which bytes: the same for the same seed and index, on every machine."""
    rng = Random(f"{seed}:{index}")
    others = [name for name in found if name != "decode"]
    name = others[index // 5 % len(others)] if index % 5 == 4 else "decode"
    return name, mutate(rng, found[name][1])
