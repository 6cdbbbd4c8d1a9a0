"""The body of a request to the bytes of its image or images, in memory and within limits.

Starlette's own form parser writes parts over 1 MB to a temporary file. Images of patients are
never put on a disk here, so the multipart parser is driven directly, into memory.
"""

import asyncio
import io
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from models.preprocess import ACCEPTED_FORMATS
from service.admission.admission import Reservation
from service.errors import (
    BodyTooLarge,
    ClientDisconnected,
    InvalidRequest,
    UnsupportedMediaType,
    UploadTooSlow,
)

RAW_TYPES = tuple(ACCEPTED_FORMATS.values())
"""Content types of a body that is the image itself."""

MAX_IMAGES = 32
"""Images in one multipart body."""

_MAX_PARTS = MAX_IMAGES + 8  # room for form fields that some clients add
_MAX_PART_HEADERS = 8
_MAX_PART_HEADER_BYTES = 1024


class Part(NamedTuple):
    """One image of a batch.

    Attributes:
        data: the file; may be empty.
        filename: as the client sent it, else None. It may name a patient: it goes back to the client alone.
    """

    data: bytes
    filename: str | None


class UploadLimits(NamedTuple):
    """What a body may be.

    Attributes:
        max_bytes: its size.
        min_rate: least bytes per second on average, from ``grace`` seconds after its start on; 0: any.
    """

    max_bytes: int
    min_rate: int
    grace: float


async def read_image(request: Request, limits: UploadLimits, reservation: Reservation) -> bytes:
    """The one image of a request: its multipart part ``file``, or the raw body.

    Args:
        request: its body is read.
        limits: of the body.
        reservation: grows with the body.

    Raises:
        BodyTooLarge, UploadTooSlow: beyond ``limits``.
        Overloaded: there is no room for so many bytes.
        UnsupportedMediaType: neither multipart nor an accepted image type.
        InvalidRequest: an empty body, or not exactly one part ``file``.
        ClientDisconnected: the client went away while sending.
    """
    media_type = _media_type(request)
    if media_type == "multipart/form-data":
        parts = await _read_parts(request, "file", limits, reservation)
        if not all(part.data for part in parts):
            raise InvalidRequest("A part named 'file' is empty; expected an image.", pointer="#/file")
        if len(parts) > 1:
            raise InvalidRequest(
                "Expected one part named 'file', got several; see /predict/batch.", pointer="#/file"
            )
        return parts[0].data
    if media_type not in RAW_TYPES:
        raise UnsupportedMediaType(
            f"Send multipart/form-data with a part named 'file', or one of {', '.join(RAW_TYPES)}."
        )
    data = io.BytesIO()
    await _receive(request, limits, reservation, data.write)
    if not data.tell():
        raise InvalidRequest("The body is empty; expected an image.", pointer="#")
    return data.getvalue()  # not a copy


async def read_images(request: Request, limits: UploadLimits, reservation: Reservation) -> list[Part]:
    """The images of a batch: the multipart parts ``files``, in order.

    Takes and raises the same as ``read_image``, but a part may be empty: that is its own problem.
    """
    if _media_type(request) != "multipart/form-data":
        raise UnsupportedMediaType("Send multipart/form-data with parts named 'files'.")
    return await _read_parts(request, "files", limits, reservation)


def _media_type(request: Request) -> str:
    headers = request.headers
    if headers.get("content-length") == "0" or not {"content-length", "transfer-encoding"} & set(headers):
        # Without a body there is no content type to complain about.
        raise InvalidRequest("The body is empty; expected an image.", pointer="#")
    if any(encoding.lower() != "identity" for encoding in headers.getlist("content-encoding")):
        raise UnsupportedMediaType("Compressed bodies (Content-Encoding) are not accepted.")
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read_parts(
    request: Request, name: str, limits: UploadLimits, reservation: Reservation
) -> list[Part]:
    """All parts called ``name``; at least one, at most ``MAX_IMAGES``."""
    _, options = parse_options_header(request.headers["content-type"])
    parts = _Parts(name)
    try:
        parser = MultipartParser(
            options.get(b"boundary", b""),
            {
                "on_part_begin": parts.begin,
                "on_header_field": parts.header_field,
                "on_header_value": parts.header_value,
                "on_header_end": parts.header_end,
                "on_headers_finished": parts.headers_finished,
                "on_part_data": parts.data,
                "on_end": parts.end,
            },
            max_header_count=_MAX_PART_HEADERS,
            max_header_size=_MAX_PART_HEADER_BYTES,
        )
        if not options.get(b"boundary"):
            raise InvalidRequest("The multipart content type has no boundary.", pointer="#")
        body = _PreambleSkipper(options[b"boundary"], parser.write)
        await _receive(request, limits, reservation, body.write)
    except FormParserError as error:
        raise InvalidRequest("The multipart body is malformed.", pointer="#") from error
    if not parts.complete:
        raise InvalidRequest("The multipart body ends too early.", pointer="#")
    if not parts.found:
        raise InvalidRequest(f"The multipart body has no part named '{name}'.", pointer=f"#/{name}")
    names = parts.filenames
    return [Part(part.getvalue(), name) for part, name in zip(parts.found, names, strict=True)]  # not copies


class _Parts:
    """Receives the parser's events and keeps the contents of the wanted parts."""

    def __init__(self, name: str) -> None:
        self.found: list[io.BytesIO] = []
        self.filenames: list[str | None] = []
        self.complete = False
        self._name = name.encode()
        self._count = 0
        self._wanted = False
        self._field = b""
        self._value = b""
        self._disposition = b""

    def begin(self) -> None:
        self._count += 1
        if self._count > _MAX_PARTS:
            raise InvalidRequest(f"The multipart body has more than {_MAX_PARTS} parts.", pointer="#")
        self._field = self._value = self._disposition = b""

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._wanted = options.get(b"name") == self._name
        if self._wanted:
            if len(self.found) == MAX_IMAGES:
                pointer = f"#/{self._name.decode()}"
                raise InvalidRequest(f"More than {MAX_IMAGES} images in one request.", pointer=pointer)
            self.found.append(io.BytesIO())
            filename = options.get(b"filename")
            self.filenames.append(None if filename is None else filename.decode("utf-8", "replace"))

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self.found[-1].write(memoryview(data)[start:end])

    def end(self) -> None:
        self.complete = True


class _PreambleSkipper:
    """Passes a multipart body on from its first boundary: a preamble is ignored (RFC 2046, 5.1.1)."""

    def __init__(self, boundary: bytes, write: Callable[[bytes], object]) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._before = b"\r\n"  # as if a line had ended: the boundary may be the first
        self._write = write

    def write(self, data: bytes) -> None:
        """The next part of the body."""
        if not self._delimiter:
            self._write(data)
            return
        data = self._before + data
        at = data.find(self._delimiter)
        if at < 0:
            self._before = data[-len(self._delimiter) + 1 :]
            return
        self._delimiter = b""
        self._write(data[at + 2 :])


async def _receive(
    request: Request, limits: UploadLimits, reservation: Reservation, write: Callable[[bytes], object]
) -> None:
    """Give the body to ``write`` as it arrives, until it is over a limit."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.max_bytes:
        raise _too_large(limits)
    start, received, more = asyncio.get_running_loop().time(), 0, True
    try:
        async with asyncio.timeout(None) as timer:
            with reservation.receiving(partial(timer.reschedule, start)):
                while more:
                    if limits.min_rate:
                        # With so many bytes received the average falls below the least rate at this moment.
                        timer.reschedule(start + max(limits.grace, received / limits.min_rate))
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnected("The client went away while sending.")
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    received += len(chunk)
                    if received > limits.max_bytes:
                        raise _too_large(limits)
                    reservation.grow_to(received)
                    write(chunk)
    except TimeoutError as error:
        reservation.check()
        if not timer.expired():
            raise  # not of this clock: the system's ETIMEDOUT
        detail = f"The body came at less than {limits.min_rate:,} bytes per second."
        raise UploadTooSlow(detail) from error


def _too_large(limits: UploadLimits) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is over the limit of {limits.max_bytes:,} bytes.")
