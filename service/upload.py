"""The body of a request to the bytes of its image or images, in memory and within limits.

Starlette's own form parser writes parts over 1 MB to a temporary file. Images of patients are
never put on a disk here, so the multipart parser is driven directly, into memory.
"""

from collections.abc import AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from models.preprocess import ACCEPTED_FORMATS
from service.errors import BodyTooLarge, ClientDisconnected, InvalidRequest, UnsupportedMediaType

RAW_TYPES = tuple(ACCEPTED_FORMATS.values())
"""Content types of a body that is the image itself."""

MAX_IMAGES = 32
"""Images in one multipart body."""

_MAX_PARTS = MAX_IMAGES + 8  # room for form fields that some clients add
_MAX_PART_HEADERS = 8
_MAX_PART_HEADER_BYTES = 1024


def expected_size(request: Request, max_body_bytes: int) -> int:
    """Bytes to reserve for the body: what it announces, else the most it may have.

    Raises:
        BodyTooLarge: it announces more than that; nothing is read.
    """
    announced = request.headers.get("content-length", "")
    if not announced.isdecimal():
        return max_body_bytes
    if int(announced) > max_body_bytes:
        raise _too_large(max_body_bytes)
    return int(announced)


async def read_image(request: Request, max_body_bytes: int) -> bytes:
    """The one image of a request: its multipart part ``file``, or the raw body.

    Raises:
        BodyTooLarge: over ``max_body_bytes``.
        UnsupportedMediaType: neither multipart nor an accepted image type.
        InvalidRequest: an empty body, or not exactly one part ``file``.
        ClientDisconnected: the client went away while sending.
    """
    media_type = _media_type(request)
    if media_type == "multipart/form-data":
        images = await _read_parts(request, "file", max_body_bytes)
        if len(images) > 1:
            raise InvalidRequest("Expected one part named 'file', got several; see /predict/batch.")
        return images[0]
    if media_type not in RAW_TYPES:
        raise UnsupportedMediaType(
            f"Send multipart/form-data with a part named 'file', or one of {', '.join(RAW_TYPES)}."
        )
    data = bytearray()
    async for chunk in _chunks(request, max_body_bytes):
        data += chunk
    if not data:
        raise InvalidRequest("The body is empty; expected an image.")
    return bytes(data)


async def read_images(request: Request, max_body_bytes: int) -> list[bytes]:
    """The images of a batch: the multipart parts ``files``, in order.

    Raises:
        BodyTooLarge, UnsupportedMediaType, InvalidRequest, ClientDisconnected: as ``read_image``.
    """
    if _media_type(request) != "multipart/form-data":
        raise UnsupportedMediaType("Send multipart/form-data with parts named 'files'.")
    return await _read_parts(request, "files", max_body_bytes)


def _media_type(request: Request) -> str:
    headers = request.headers
    if headers.get("content-length") == "0" or not {"content-length", "transfer-encoding"} & set(headers):
        # Without a body there is no content type to complain about.
        raise InvalidRequest("The body is empty; expected an image.")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Compressed bodies (Content-Encoding) are not accepted.")
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read_parts(request: Request, name: str, max_body_bytes: int) -> list[bytes]:
    """Contents of all parts called ``name``; at least one, at most ``MAX_IMAGES``."""
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
            raise InvalidRequest("The multipart content type has no boundary.")
        async for chunk in _chunks(request, max_body_bytes):
            parser.write(chunk)
    except FormParserError as error:
        raise InvalidRequest("The multipart body is malformed.") from error
    if not parts.complete:
        raise InvalidRequest("The multipart body ends too early.")
    if not parts.found:
        raise InvalidRequest(f"The multipart body has no part named '{name}'.")
    if not all(parts.found):
        raise InvalidRequest(f"A part named '{name}' is empty; expected an image.")
    return [bytes(part) for part in parts.found]


class _Parts:
    """Receives the parser's events and keeps the contents of the wanted parts."""

    def __init__(self, name: str) -> None:
        self.found: list[bytearray] = []
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
            raise InvalidRequest(f"The multipart body has more than {_MAX_PARTS} parts.")
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
                raise InvalidRequest(f"More than {MAX_IMAGES} images in one request.")
            self.found.append(bytearray())

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self.found[-1] += memoryview(data)[start:end]

    def end(self) -> None:
        self.complete = True


async def _chunks(request: Request, max_body_bytes: int) -> AsyncIterator[bytes]:
    """The body as it comes in, until it is over the limit."""
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > max_body_bytes:
                raise _too_large(max_body_bytes)
            yield chunk
    except ClientDisconnect as error:
        raise ClientDisconnected("The client went away while sending.") from error


def _too_large(max_body_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is over the limit of {max_body_bytes:,} bytes.")
