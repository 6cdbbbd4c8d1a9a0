"""What hostile requests are made of."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random

from tests.long.drawn_files import png
from tests.long.raw_socket import Outcome, Sending

BOUNDARY = "b7f3"
FORM = f"multipart/form-data; boundary={BOUNDARY}"

Made = tuple[Sending, *tuple[Outcome, ...]]
"""A hostile request and the outcomes that are fit for it."""


@cache
def bombs() -> Sequence[bytes]:
    """Files of a few hundred bytes to some kB that say to hold hundreds of megapixels or more."""
    tags = {256: 60, 257: 45, 258: 8, 259: 8, 262: 1, 277: 1, 322: 30_000, 323: 30_000, 324: 8, 325: 9}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    jpeg = (
        b"\xff\xd8\xff\xc0\0\x11\x08"
        + struct.pack(">HH", 65_000, 65_000)
        + b"\3\1\x22\0\2\x11\1\3\x11\1\xff\xd9"
    )
    bmp = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 1000, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    return [
        blank_png(12_000),
        png(2**31 - 1, 2**31 - 1, 16, zlib.compress(bytes(1000))),
        b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4),
        jpeg,
        bmp + bytes(1000),
    ]


@cache
def blank_png(side: int) -> bytes:
    """Black, of one bit a pixel; its pixels are never in memory here."""
    packer = zlib.compressobj(9)
    row = bytes(side // 8 + 1)
    return png(side, side, 1, b"".join(packer.compress(row) for _ in range(side)) + packer.flush())


def form(
    data: bytes, headers: str = 'Content-Disposition: form-data; name="file"; filename="a.jpg"'
) -> bytes:
    """A multipart body of one part."""
    return f"--{BOUNDARY}\r\n{headers}\r\n\r\n".encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


@dataclass(frozen=True, slots=True)
class Arsenal:
    """Good files and bad ones, and requests around them.

    Attributes:
        images: good files.
        key: an API key; empty where none is needed.
        max_body_bytes: the server's limit.
        bombs: small files that say to hold too many pixels.
        large: a small file of 25 megapixels, which are allowed.
    """

    images: Sequence[bytes]
    key: str = ""
    max_body_bytes: int = 20_000_000
    bombs: Sequence[bytes] = field(default_factory=bombs)
    large: bytes = field(default_factory=lambda: blank_png(5000))

    def head(self, *lines: str, method: str = "POST", target: str = "/predict") -> bytes:
        """Request line and headers, as they are given."""
        keyed = not self.key or any(line.startswith("X-API-Key") for line in lines)
        keys = [] if keyed else [f"X-API-Key: {self.key}"]
        text = [f"{method} {target} HTTP/1.1", "Host: service", *keys, *lines, "", ""]
        return "\r\n".join(text).encode("latin-1")

    def request(
        self, body: bytes, *lines: str, target: str = "/predict", media_type: str = "image/png"
    ) -> bytes:
        """A well-formed request, with header ``lines`` added."""
        lines = (f"Content-Type: {media_type}", f"Content-Length: {len(body)}", *lines)
        return self.head(*lines, target=target) + body

    def upload(self, rng: Random, data: bytes) -> Sending:
        """``data`` as the image of a request to some route, raw or in a form."""
        target = rng.choice(["/predict", "/predict?gradcam=true", "/gradcam"])
        if rng.random() < 0.5:
            media_type = rng.choice(["image/jpeg", "image/webp"])
            return Sending([self.request(data, target=target, media_type=media_type)])
        return Sending([self.request(form(data), target=target, media_type=FORM)])
