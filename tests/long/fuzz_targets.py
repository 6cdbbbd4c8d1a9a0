"""What is fuzzed: each takes bytes, names the outcome, and raises whatever must not happen."""

import asyncio
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image
from starlette.requests import Request

from models.preprocess import decode
from service.admission.admission import Admission, Reservation
from service.api.upload import UploadLimits, read_images
from service.errors import RequestError
from tests.long.drawn_files import drawn_dicoms, drawn_files, drawn_heifs, tiled_tiff
from tests.long.mutations import damage_pixels, mutate
from tests.long.oracle import compare
from tests.synthetic import encoded

MAX_PIXELS = 4_000_000
"""Small, so that what takes more memory than a limit of pixels allows stands out."""

_BOUNDARY = "f2a9"


def decoding(data: bytes) -> str:
    """``models.preprocess.decode``: what Pillow makes of the file, or an ImageError where it does."""
    outcome = compare(data, max_pixels=MAX_PIXELS)
    if outcome.startswith("decoded"):
        found, again = (decode(data, max_pixels=MAX_PIXELS).pixels for _ in range(2))
        assert found.shape == (224, 224, 3), found.shape
        assert found.dtype == np.uint8
        # Pixels that a damaged file leaves out must not show what was in memory before.
        np.testing.assert_array_equal(found, again)
    return outcome


def decoding_reduced(data: bytes) -> str:
    """The same of a picture so much smaller that a JPEG is decoded at a reduced scale."""
    return compare(data, max_pixels=MAX_PIXELS, side=64)


def parsing(data: bytes) -> str:
    """``service.api.upload``: parts that were in the body, or a RequestError."""
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
        reservation = Reservation(Admission(max_requests=1, max_body_bytes=limit))
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


def photographs(folder: Path) -> list[bytes]:
    """A few originals of the data set, in every way to keep them that matters."""
    files = []
    for path in sorted((folder / "originals").glob("*.jpg"))[:6]:
        files.append(path.read_bytes())
        with Image.open(path) as photograph:
            photograph.load()
        files += [
            encoded(photograph, "JPEG", quality=90, progressive=True),
            encoded(photograph, "JPEG", quality=90, restart_marker_rows=4),
            encoded(photograph, "PNG"),
            encoded(photograph, "TIFF"),
            encoded(photograph, "TIFF", compression="tiff_lzw"),
            encoded(photograph, "TIFF", compression="tiff_adobe_deflate"),
            tiled_tiff(photograph.convert("L"), 128),
            encoded(photograph, "WEBP"),
            encoded(photograph, "WEBP", lossless=True),
            encoded(photograph, "BMP"),
        ]
        if find_spec("pillow_heif"):
            files.append(encoded(photograph, "HEIF"))
    return files


Found = Mapping[str, tuple[Callable[[bytes], str], list[bytes]]]
"""Each target by its name, with the files that its inputs are made of."""


def targets(seed: int) -> Found:
    """All there are: of files drawn from ``seed``, and of photographs where DERMASERVE_HAM10000 is set."""
    images = list(drawn_files(seed, 96, 72).values())
    found: Found = {"decode": (decoding, images), "multipart": (parsing, forms(images))}
    if find_spec("pydicom"):
        found = {**found, "dicom": (decoding, list(drawn_dicoms(seed, 96, 72).values()))}
    if find_spec("pillow_heif"):
        found = {**found, "heif": (decoding, list(drawn_heifs(seed, 96, 72).values()))}
    folder = os.environ.get("DERMASERVE_HAM10000")
    if folder and (real := photographs(Path(folder))):
        found = {**found, "photographs": (decoding, real), "photographs, reduced": (decoding_reduced, real)}
    return found


def input_of(seed: int, index: int, found: Found) -> tuple[str, bytes]:
    """Which target gets which bytes: the same for the same seed, index and data set, on every machine."""
    rng = Random(f"{seed}:{index}")
    others = [name for name in found if name != "decode"]
    name = others[index // 5 % len(others)] if index % 5 == 4 else "decode"
    files = found[name][1]
    if name.startswith("photographs") or (name == "decode" and rng.random() < 0.2):
        return name, damage_pixels(rng, rng.choice(files))
    return name, mutate(rng, files)
