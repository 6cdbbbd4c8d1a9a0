"""Reads the image or images of a request body into memory, within limits.

Starlette's form parser writes parts over 1 MB to a temporary file. The service must never write images of
patients to a disk, so this module calls the multipart parser directly.
"""

import asyncio
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from models.bundle import NO_METADATA, Metadata
from models.preprocess import ACCEPTED_FORMATS
from service.admission.admission import Reservation
from service.api.metadata import FIELDS, parse_batch, parse_texts
from service.errors import (
    BodyTooLarge,
    ClientDisconnected,
    InvalidRequest,
    UnsupportedMediaType,
    UploadTooSlow,
)

RAW_TYPES = tuple(ACCEPTED_FORMATS.values())
"""Content types of a body that is a raw image."""

_EXTRAS = {"image/heic": "heif", "image/heif": "heif", "application/dicom": "dicom"}
"""The optional extra without which a content type is missing in ``RAW_TYPES``."""

MAX_IMAGES = 32
"""Largest number of images in one multipart body."""

_MAX_PARTS = MAX_IMAGES + 8  # some clients add form fields
_MAX_BATCH_METADATA_BYTES = 16_384  # four times what 32 images need
_FIELD_BYTES = dict.fromkeys(FIELDS, 64)  # the largest size of each
_MAX_PART_HEADERS = 8
_MAX_PART_HEADER_BYTES = 1024


@dataclass(slots=True)
class Upload:
    """One image file of a request.

    Attributes:
        data: the file. It may be empty in a batch. It is emptied once the image is decoded, to free memory.
        filename: as the client sent it, or None. It may name a patient, so only the client may see it.
        metadata: age, sex and site from the form.
    """

    data: bytes
    filename: str | None = None
    metadata: Metadata = NO_METADATA


class UploadLimits(NamedTuple):
    """Limits of a body.

    Attributes:
        max_bytes: largest size in bytes.
        min_rate: lowest average rate in bytes per second; 0 for no limit.
        grace: seconds from the start of the body in which ``min_rate`` does not apply.
    """

    max_bytes: int
    min_rate: int
    grace: float


async def read_image(request: Request, limits: UploadLimits, reservation: Reservation) -> Upload:
    """Read the body and return its image: the multipart part ``file``, or the raw body.

    A form may have fields with the image's metadata.

    Args:
        request: its body has not been read.
        limits: of the body.
        reservation: grows with the received bytes.

    Raises:
        BodyTooLarge, UploadTooSlow: the body exceeds ``limits``.
        Overloaded: the server has no memory left for uploads.
        UnsupportedMediaType: the body is neither multipart nor of an accepted image type.
        InvalidRequest: the body is empty, malformed, or does not have exactly one part ``file``; or a field
            is too large, repeated, or has a value that is not accepted.
        ClientDisconnected: the client disconnected before the end of the body.
    """
    media_type = media_type_of(request)
    if media_type == "multipart/form-data":
        parts, fields = await _read_parts(request, "file", _FIELD_BYTES, limits, reservation)
        if not all(part.data for part in parts):
            raise InvalidRequest("A part named 'file' is empty. Expected an image.", pointer="#/file")
        if len(parts) > 1:
            raise InvalidRequest(
                "Expected one part named 'file', got several. See /predict/batch.", pointer="#/file"
            )
        parts[0].metadata = parse_texts(
            {name: _decoded(name, data) for name, data in fields.items()}, "pointer"
        )
        return parts[0]
    if media_type not in RAW_TYPES:
        extra = _EXTRAS.get(media_type)
        raise UnsupportedMediaType(
            f"Send multipart/form-data with a part named 'file', or one of {', '.join(RAW_TYPES)}."
            + (f" This installation lacks the extra '{extra}', which reads {media_type}." if extra else "")
        )
    return Upload(await read_body(request, limits, reservation))


async def read_body(request: Request, limits: UploadLimits, reservation: Reservation) -> bytes:
    """Read a body that is not a form; see ``read_image`` for arguments and exceptions."""
    data = io.BytesIO()
    await _receive(request, limits, reservation, data.write)
    if not data.tell():
        raise InvalidRequest("The body is empty. Expected an image.", pointer="#")
    return data.getvalue()  # does not copy


async def read_images(request: Request, limits: UploadLimits, reservation: Reservation) -> list[Upload]:
    """Read the body and return the images of a batch: the multipart parts ``files``, in order.

    A form may have the field ``metadata``, with the metadata of all images.

    See ``read_image`` for arguments and exceptions. Here a part may be empty.
    """
    if media_type_of(request) != "multipart/form-data":
        raise UnsupportedMediaType("Send multipart/form-data with parts named 'files'.")
    parts, fields = await _read_parts(
        request, "files", {"metadata": _MAX_BATCH_METADATA_BYTES}, limits, reservation
    )
    if data := fields.get("metadata"):
        for part, metadata in zip(parts, parse_batch(data, len(parts)), strict=True):
            part.metadata = metadata
    return parts


def media_type_of(request: Request) -> str:
    """Return the media type of the body, before it is read.

    Raises:
        InvalidRequest: there is no body.
        UnsupportedMediaType: the body is compressed.
    """
    headers = request.headers
    if headers.get("content-length") == "0" or not {"content-length", "transfer-encoding"} & set(headers):
        # Checked first: a request without a body has no content type.
        raise InvalidRequest("The body is empty. Expected an image.", pointer="#")
    if any(encoding.lower() != "identity" for encoding in headers.getlist("content-encoding")):
        raise UnsupportedMediaType("Compressed bodies (Content-Encoding) are not accepted.")
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _decoded(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    raise InvalidRequest(f"{name}: expected text in UTF-8.", pointer=f"#/{name}")


async def _read_parts(
    request: Request,
    name: str,
    fields: Mapping[str, int],
    limits: UploadLimits,
    reservation: Reservation,
) -> tuple[list[Upload], dict[str, bytes]]:
    """Read the body and return its parts named ``name``, 1 to ``MAX_IMAGES``, and its fields by name.

    ``fields`` has the largest size of each field in bytes. Parts with other names are ignored.
    """
    _, options = parse_options_header(request.headers["content-type"])
    parts = _Parts(name, fields)
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
    if not parts.contents:
        raise InvalidRequest(f"The multipart body has no part named '{name}'.", pointer=f"#/{name}")
    files = zip(parts.contents, parts.filenames, strict=True)
    uploads = [Upload(part.getvalue(), filename) for part, filename in files]  # does not copy
    return uploads, {field: content.getvalue() for field, content in parts.fields.items()}


class _Parts:
    """Receives the parser's events and stores the parts named ``name``, their file names, and the fields."""

    def __init__(self, name: str, fields: Mapping[str, int]) -> None:
        self.fields: dict[str, io.BytesIO] = {}
        self.contents: list[io.BytesIO] = []
        self.filenames: list[str | None] = []
        self.complete = False
        self._name = name.encode()
        self._max_bytes = fields
        self._count = 0
        self._field_name: str | None = None
        self._target: io.BytesIO | None = None
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
        name = options.get(b"name")
        self._field_name = self._target = None
        if name == self._name:
            if len(self.contents) == MAX_IMAGES:
                pointer = f"#/{self._name.decode()}"
                raise InvalidRequest(f"The body has more than {MAX_IMAGES} images.", pointer=pointer)
            self._target = io.BytesIO()
            self.contents.append(self._target)
            filename = options.get(b"filename")
            self.filenames.append(None if filename is None else filename.decode("utf-8", "replace"))
            return
        field = next((field for field in self._max_bytes if field.encode() == name), None)
        if field is None:
            return
        if field in self.fields:
            raise InvalidRequest(f"Expected one field named '{field}', got several.", pointer=f"#/{field}")
        self._field_name = field
        self._target = self.fields[field] = io.BytesIO()

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._target is None:
            return
        self._target.write(memoryview(data)[start:end])
        field = self._field_name
        if field is not None and self._target.tell() > self._max_bytes[field]:
            detail = f"{field}: expected at most {self._max_bytes[field]:,} bytes."
            raise InvalidRequest(detail, pointer=f"#/{field}")

    def end(self) -> None:
        self.complete = True


class _PreambleSkipper:
    """Passes a multipart body on from its first boundary, without the preamble (RFC 2046, 5.1.1)."""

    def __init__(self, boundary: bytes, write: Callable[[bytes], object]) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._before = b"\r\n"  # the boundary may be at the start of the body
        self._write = write

    def write(self, data: bytes) -> None:
        """Take the next bytes of the body."""
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
    """Pass the body to ``write`` as it arrives, and enforce ``limits``."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.max_bytes:
        raise _too_large(limits)
    start, received, more = asyncio.get_running_loop().time(), 0, True
    try:
        async with asyncio.timeout(None) as timer:
            with reservation.transfer(partial(timer.reschedule, start)):
                while more:
                    if limits.min_rate:
                        # The time at which the average rate falls below the minimum.
                        timer.reschedule(start + max(limits.grace, received / limits.min_rate))
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnected("The client disconnected before the end of the body.")
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    received += len(chunk)
                    if received > limits.max_bytes:
                        raise _too_large(limits)
                    reservation.grow_to(received)
                    write(chunk)
    except TimeoutError as error:
        reservation.check()
        if not timer.expired():
            raise  # not this timer, but an ETIMEDOUT of the operating system
        detail = f"The body arrived at less than {limits.min_rate:,} bytes per second."
        raise UploadTooSlow(detail) from error


def _too_large(limits: UploadLimits) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than the limit of {limits.max_bytes:,} bytes.")
