"""Decompression bombs, and files with data of two formats."""

import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from tests.long.drawn_files import png_chunk
from tests.service.app_client import Client
from tests.service.conftest import JPEG, assert_problem
from tests.synthetic import encoded

SIDE = 60_000  # pixels; 3.6 billion in all
SWELLING = zlib.compress(bytes(20_000_000), 1)

pytestmark = pytest.mark.usefixtures("next_is_answered")


def with_chunk(image: Image.Image, name: bytes, content: bytes) -> bytes:
    """Encode ``image`` as a PNG with one more chunk after its header."""
    png = encoded(image, "PNG")
    return png[:33] + png_chunk(name, content) + png[33:]


def huge_jpeg(image: Image.Image) -> bytes:
    data = bytearray(encoded(image, "JPEG"))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, SIDE, SIDE)
    return bytes(data)


def huge_bmp(image: Image.Image) -> bytes:
    data = bytearray(encoded(image, "BMP"))
    struct.pack_into("<ii", data, 18, SIDE, SIDE)
    return bytes(data)


def huge_webp(image: Image.Image) -> bytes:
    data = bytearray(encoded(image, "WEBP", lossless=True))
    struct.pack_into("<I", data, data.index(b"VP8L") + 9, 16_383 | 16_383 << 14)
    return bytes(data)


def huge_tiff(image: Image.Image) -> bytes:
    data = bytearray(encoded(image, "TIFF"))
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry)[0] in (256, 257):  # width and height
            struct.pack_into("<HII", data, entry + 2, 4, 1, SIDE)
    return bytes(data)


@pytest.mark.parametrize("huge", [huge_jpeg, huge_bmp, huge_webp, huge_tiff])
def test_an_announced_size_over_the_limit_is_413_before_decoding(
    client: Client, lesion: Image.Image, huge: Callable[[Image.Image], bytes]
) -> None:
    response = client.post("/predict", content=huge(lesion), headers=JPEG)
    assert_problem(response, 413, "image-too-large")


@pytest.mark.parametrize(
    ("name", "head"), [(b"zTXt", b"Comment\0\0"), (b"iTXt", b"Comment\0\1\0\0\0"), (b"iCCP", b"icc\0\0")]
)
def test_metadata_that_decompresses_to_a_huge_size_is_422(
    client: Client, lesion: Image.Image, name: bytes, head: bytes
) -> None:
    response = client.post("/predict", content=with_chunk(lesion, name, head + SWELLING), headers=JPEG)
    assert_problem(response, 422, "corrupt-image")


def test_pixels_beyond_the_announced_size_are_ignored(client: Client, lesion: Image.Image) -> None:
    png = encoded(lesion, "PNG")
    bomb = png[:33] + png_chunk(b"IDAT", SWELLING) + png_chunk(b"IEND", b"")
    black = encoded(Image.new("RGB", lesion.size), "PNG")
    answers = [client.post("/predict", content=data, headers=JPEG).json() for data in (bomb, black)]
    assert answers[0]["probabilities"] == answers[1]["probabilities"]


@pytest.mark.parametrize(
    "behind",
    [
        b"PK\3\4" + bytes(100) + b"PK\5\6" + bytes(18),
        b"<html><script>alert(1)</script></html>",
        b"%PDF-1.7\n%%EOF",
        b"<?php system($_GET[0]); ?>",
    ],
)
def test_data_after_an_image_is_ignored(
    client: Client, lesion: Image.Image, jpeg: bytes, behind: bytes
) -> None:
    for image in (jpeg, encoded(lesion, "PNG")):
        plain, polyglot = (
            client.post("/predict?gradcam=true", content=data, headers=JPEG)
            for data in (image, image + behind)
        )
        assert plain.status_code == polyglot.status_code == 200
        assert polyglot.json() | {"request_id": ""} == plain.json() | {"request_id": ""}
        assert behind not in polyglot.content


@pytest.mark.parametrize(
    "front",
    [
        b"PK\3\4",
        b"GIF89a",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>",
        b"P6 10 10 255\n",
        b"\0\0\1\0\1\0",  # ICO
        b"\x7fELF",
    ],
)
def test_data_of_another_format_before_an_image_is_415(client: Client, jpeg: bytes, front: bytes) -> None:
    for content_type in ("image/jpeg", "image/png"):
        response = client.post("/predict", content=front + jpeg, headers={"content-type": content_type})
        assert_problem(response, 415, "unsupported-image")
