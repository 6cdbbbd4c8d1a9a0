"""What the hostile client of ``tests.long.fairness`` sends."""

import io
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image

from tests.service import costly_images


class Attack(NamedTuple):
    """What each connection sends.

    Attributes:
        request: a whole request, or the beginning of one.
        answered: whether to wait for the answer, and then to go on.
        kept: whether the next request comes on the same connection.
        more: what follows the request again and again, until the server closes the connection.
        read: bytes per second of the answer that each connection reads; 0 for none, None for all at once.
        buffer: bytes that the system may receive before they are read; 0 for its default.
        lead: seconds before the good client is watched.
        beside: what the good client asks meanwhile.
    """

    request: bytes
    answered: bool = True
    kept: bool = True
    more: bytes = b""
    read: int | None = None
    buffer: int = 0
    lead: float = 1.5
    beside: str = "/predict"


OVERLAYS = "/predict/batch?gradcam=true"


def post(path: str, body: bytes, media_type: str) -> bytes:
    """A request with an image."""
    headers = f"Host: x\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return f"POST {path} HTTP/1.1\r\n{headers}".encode() + body


def begun(header: str) -> bytes:
    """The beginning of a request with an image, up to its body."""
    return f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n{header}\r\n\r\n".encode()


def get(path: str) -> bytes:
    """A request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


FORM = "multipart/form-data; boundary=x"


def form(image: bytes, count: int) -> bytes:
    """A body with ``count`` times the same image."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    return b"".join(head + image + b"\r\n" for _ in range(count)) + b"--x--\r\n"


def batch(image: bytes, path: str = "/predict/batch") -> bytes:
    """A request with as many images as a batch may have."""
    return post(path, form(image, 32), FORM)


def image(width: int, height: int, format_: str, mode: str = "RGB") -> bytes:
    """A file of one colour."""
    buffer = io.BytesIO()
    Image.new(mode, (width, height), 128 if len(mode) == 1 else (200, 150, 130)).save(buffer, format_)
    return buffer.getvalue()


def noise(width: int, height: int, quality: int) -> bytes:
    """A JPEG of noise. The worse its quality, the larger is its overlay compared with it: up to 100 times."""
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 60).convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def dense(side: int, read: int) -> Attack:
    """Batches whose answers have 4 MB of overlays, which are read slowly or not at all."""
    request = batch(noise(side, side, 5), OVERLAYS)
    return Attack(request, answered=False, read=read, buffer=2048, lead=15, beside=OVERLAYS)


def flat_webp() -> bytes:
    """64 megapixels in 34 bytes, which take 1 GB and a second to decode."""
    buffer = io.BytesIO()
    Image.new("RGB", (7900, 7900)).save(buffer, "WEBP", lossless=True, method=0)
    return buffer.getvalue()


ATTACKS: dict[str, Callable[[], Attack]] = {
    "idle": lambda: Attack(b"", answered=False),
    "half requests": lambda: Attack(post("/predict", b"x" * 1000, "image/png")[:-900], answered=False),
    "announced sizes": lambda: Attack(begun("Content-Length: 20000000"), answered=False, more=b"\xff" * 1000),
    "drips of headers": lambda: Attack(b"POST /predict HTTP/1.1\r\n", answered=False, more=b"A: b\r\n"),
    "drips of chunks": lambda: Attack(
        begun("Transfer-Encoding: chunked"), answered=False, more=b"1\r\n\xff\r\n"
    ),
    "pings": lambda: Attack(get("/livez")),
    "pings, new": lambda: Attack(get("/livez"), kept=False),
    "scrapes": lambda: Attack(get("/metrics")),
    "tiny": lambda: Attack(post("/predict", image(8, 8, "PNG"), "image/png")),
    "tiny, new": lambda: Attack(post("/predict", image(8, 8, "PNG"), "image/png"), kept=False),
    "tiny, gone": lambda: Attack(
        post("/predict", image(8, 8, "PNG"), "image/png"), answered=False, kept=False
    ),
    "overlays": lambda: Attack(post("/gradcam", image(8, 8, "PNG"), "image/png")),
    "damaged": lambda: Attack(post("/predict", image(8, 8, "PNG")[:56], "image/png")),
    "batches": lambda: Attack(batch(image(8, 8, "PNG"))),
    "batches with overlays": lambda: Attack(batch(image(8, 8, "PNG"), OVERLAYS), beside=OVERLAYS),
    "dense overlays": lambda: Attack(batch(noise(112, 112, 5), OVERLAYS), beside=OVERLAYS),
    "dense overlays, unread": lambda: dense(112, read=0),
    "dense overlays, unread, 224 px": lambda: dense(224, read=0),
    "dense overlays, read slowly": lambda: dense(112, read=10_000),
    "large": lambda: Attack(post("/predict", image(3000, 3000, "PNG", "L"), "image/png")),
    "flat WebP": lambda: Attack(post("/predict", flat_webp(), "image/webp")),
    "scans": lambda: Attack(post("/predict", costly_images.scans(600, 600, 400), "image/jpeg")),
    "many scans": lambda: Attack(post("/predict", costly_images.scans(2000, 2000, 1000), "image/jpeg")),
    "batches of scans": lambda: Attack(batch(costly_images.scans(600, 600, 100))),
}
