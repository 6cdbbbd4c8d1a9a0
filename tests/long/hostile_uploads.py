"""Hostile uploads: files and forms that are not what they seem."""

import zlib
from functools import cache
from random import Random

from tests.long.arsenal import BOUNDARY, FORM, Arsenal, Made, blank_png, form
from tests.long.drawn_files import png_chunk
from tests.long.mutations import mutate
from tests.long.raw_socket import Sending


def truncated(rng: Random, arsenal: Arsenal) -> Made:
    data = rng.choice(arsenal.images)
    return arsenal.upload(rng, data[: rng.randint(1, len(data) - 1)]), 200, 415, 422


def corrupt(rng: Random, arsenal: Arsenal) -> Made:
    # One byte in front: a mutation may leave nothing, which is another kind.
    return arsenal.upload(rng, mutate(rng, arsenal.images) or b"\0"), 200, 413, 415, 422


def pixel_bomb(rng: Random, arsenal: Arsenal) -> Made:
    return arsenal.upload(rng, rng.choice(arsenal.bombs)), 413


def large(rng: Random, arsenal: Arsenal) -> Made:
    return arsenal.upload(rng, arsenal.large), 200


def text_bomb(rng: Random, arsenal: Arsenal) -> Made:
    return arsenal.upload(rng, swelling_png()), 200, 422


@cache
def swelling_png() -> bytes:
    """A small picture with compressed metadata that swells to 100 MB, twice."""
    packer = zlib.compressobj(9)
    swollen = b"".join(packer.compress(bytes(1_000_000)) for _ in range(100)) + packer.flush()
    data = blank_png(300)
    chunks = png_chunk(b"zTXt", b"Comment\0\0" + swollen) + png_chunk(b"iCCP", b"icc\0\0" + swollen)
    return data[:33] + chunks + data[33:]


def polyglot(rng: Random, arsenal: Arsenal) -> Made:
    front = rng.choice(
        [b"", b"%PDF-1.7\n", b"GIF89a", b"<html><script>", b"PK\3\4", b"\x7fELF", b"\0" * 128 + b"DICM"]
    )
    back = rng.choice(
        [b"<?php system($_GET[0]); ?>", b"PK\5\6" + bytes(18), b"<script>alert(1)</script>", b"%%EOF"]
    )
    return arsenal.upload(rng, front + rng.choice(arsenal.images) + back), 200, 415, 422


def wrong_type(rng: Random, arsenal: Arsenal) -> Made:
    kinds = [
        "application/json",
        "text/plain",
        "image/gif",
        "image/svg+xml",
        "multipart/mixed; boundary=x",
        "",
        "\xff",
    ]
    data = rng.choice(arsenal.images)
    if rng.random() < 0.2:
        return Sending([arsenal.request(zlib.compress(data), "Content-Encoding: deflate")]), 415
    return Sending([arsenal.request(data, media_type=rng.choice(kinds))]), 415


def multipart(rng: Random, arsenal: Arsenal) -> Made:
    """A form damaged between its parts, not in the image."""
    body = form(rng.choice(arsenal.images)[:2000])
    media_type = rng.choice(
        [FORM] * 4 + ["multipart/form-data", "multipart/form-data; boundary=" + "y" * 3000]
    )
    return Sending([arsenal.request(mutate(rng, [body]), media_type=media_type)]), 200, 413, 415, 422


def deep_multipart(rng: Random, arsenal: Arsenal) -> Made:
    body = b"x"
    for level in range(200):
        head = f"--in{level}\r\nContent-Type: multipart/mixed; boundary=in{level - 1}\r\n\r\n".encode()
        body = head + body + f"\r\n--in{level}--\r\n".encode()
    return Sending([arsenal.request(form(body), media_type=FORM)]), 415, 422


def many_parts(rng: Random, arsenal: Arsenal) -> Made:
    parts = b"".join(form(b"x")[: -len(f"--{BOUNDARY}--\r\n")] for _ in range(rng.choice([100, 20_000])))
    target = rng.choice(["/predict", "/predict/batch"])
    return Sending([arsenal.request(parts + form(b"x"), media_type=FORM, target=target)]), 422
