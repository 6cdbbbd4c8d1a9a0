"""Everything the service refuses on purpose, and the one table from failure to status code.

DermaserveError
├── ImageError ...            from models.errors: the image cannot be used
├── BundleError               from models.errors: the process does not become ready
├── SettingsError             a setting is wrong: the process does not start
├── DeviceError               the GPU was demanded and does not work: the process does not start
├── UnreadableFile            offline: it makes a row
├── OutputError               offline: rows cannot be written; the run ends
├── RequestError              the request cannot be read
│   ├── BodyTooLarge
│   ├── UnsupportedMediaType
│   ├── InvalidRequest
│   ├── MalformedRequest      it is no HTTP/1.1
│   ├── HeadersTooLarge
│   ├── HeadersTooSlow
│   └── UploadTooSlow
├── Unauthorized              no API key, or none that is in force
├── Forbidden                 the key may not do this
├── Unavailable               not now; carries ``retry_after`` in seconds
│   ├── NotReady
│   │   ├── ShuttingDown
│   │   └── Stuck
│   ├── Overloaded
│   │   └── NoMemory
│   └── RateLimited           this client's own limit
├── DeadlinePassed            too late; the work was dropped
├── ClientDisconnected        nobody is waiting for the answer any more
├── BundleRefused             a new bundle was not taken; the old one goes on
├── ReloadRunning             a bundle is being loaded already
└── InferenceFailed           the model gave no usable answer

Messages are written for the client: never a path, never a library's own words. Only those for the
operator, who has no other way to know, name files: of settings, bundles and output.
"""

from collections.abc import Sequence
from typing import NamedTuple

from models.errors import CorruptImage, DermaserveError, ImageTooCostly, ImageTooLarge, UnsupportedImage


class SettingsError(DermaserveError):
    """One or more settings are wrong; ``problems`` has a line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class DeviceError(DermaserveError):
    """The demanded device does not work."""


class UnreadableFile(DermaserveError):
    """A file on this machine cannot be read."""


class OutputError(DermaserveError):
    """What was scored cannot be written where it should."""


class RequestError(DermaserveError):
    """The request cannot be read."""


class BodyTooLarge(RequestError):
    """The body is over the byte limit; at most the limit was read."""


class UnsupportedMediaType(RequestError):
    """The content type is neither multipart nor an accepted image type."""


class Fault(NamedTuple):
    """One thing that is wrong with a request, and where: as in RFC 9457, section 3.

    Attributes:
        detail: what is wrong, for people.
        parameter: name of the query parameter that it is about.
        pointer: JSON pointer to the part of the body that it is about, as ``#/file`` or ``#/files/3``; ``#``
            for the body as a whole.
    """

    detail: str
    parameter: str | None = None
    pointer: str | None = None


class InvalidRequest(RequestError):
    """A part is missing or malformed, or a parameter has no such value.

    Attributes:
        faults: what is wrong where; may be empty.
    """

    def __init__(
        self,
        detail: str,
        *,
        parameter: str | None = None,
        pointer: str | None = None,
        faults: Sequence[Fault] = (),
    ) -> None:
        """Refuse with ``detail``; where, say ``parameter`` or ``pointer``, or several ``faults``."""
        super().__init__(detail)
        one = Fault(detail, parameter, pointer)
        self.faults = tuple(faults) or ((one,) if parameter or pointer else ())


class MalformedRequest(RequestError):
    """The bytes are no HTTP/1.1, or could be read in two ways; the connection is closed."""


class HeadersTooLarge(RequestError):
    """Request line and headers are over the byte limit; the connection is closed."""


class HeadersTooSlow(RequestError):
    """The headers were not complete in time; the connection is closed."""


class UploadTooSlow(RequestError):
    """The body came at less than the least rate; the connection is closed."""


class Unavailable(DermaserveError):
    """Cannot be done now, but may be soon."""

    def __init__(self, detail: str, *, reason: str, retry_after: int) -> None:
        """Refuse with ``detail`` for people, ``reason`` for metrics, ``retry_after`` in seconds."""
        super().__init__(detail)
        self.reason = reason
        self.retry_after = retry_after


class NotReady(Unavailable):
    """The model cannot answer: starting, shutting down, stuck, or failed."""


class ShuttingDown(NotReady):
    """No new work is taken any more."""

    def __init__(self) -> None:
        super().__init__("The server is shutting down.", reason="draining", retry_after=5)


class Stuck(NotReady):
    """Inference hangs or has died: only a new process helps."""

    def __init__(self) -> None:
        super().__init__("The server has stopped working on images.", reason="stuck", retry_after=60)


class Overloaded(Unavailable):
    """As much work as is allowed has been accepted already."""


class NoMemory(Overloaded):
    """There is no memory for it, which says nothing of the image."""

    def __init__(self) -> None:
        super().__init__("There is no memory for this image now.", reason="memory", retry_after=1)


class RateLimited(Unavailable):
    """The client has as much in work, or sent as much, as it may."""


class Unauthorized(DermaserveError):
    """The request has no API key, or none that is in force."""


class Forbidden(DermaserveError):
    """The client is known, and may not do this."""


class DeadlinePassed(DermaserveError):
    """The deadline passed before the answer was computed."""


class ClientDisconnected(DermaserveError):
    """The client went away; its work was cancelled."""


class BundleRefused(DermaserveError):
    """A reload found nothing that can be served; the model is the one it was."""


class ReloadRunning(DermaserveError):
    """One bundle is loaded at a time."""


class InferenceFailed(DermaserveError):
    """The model failed, or answered something that is no probability."""


class Kind(NamedTuple):
    """How a failure looks to a client: RFC 9457's ``type`` and ``title``, and the status."""

    type: str
    title: str
    status: int


INTERNAL = Kind("internal-error", "Internal error", 500)

KINDS: dict[type[Exception], Kind] = {
    MalformedRequest: Kind("malformed-request", "Malformed HTTP request", 400),
    HeadersTooSlow: Kind("headers-too-slow", "Request headers came too slowly", 408),
    UploadTooSlow: Kind("upload-too-slow", "Request body came too slowly", 408),
    Unauthorized: Kind("unauthorized", "API key missing or wrong", 401),
    Forbidden: Kind("forbidden", "Not allowed with this API key", 403),
    BodyTooLarge: Kind("body-too-large", "Request body too large", 413),
    ImageTooLarge: Kind("image-too-large", "Image has too many pixels", 413),
    UnsupportedMediaType: Kind("unsupported-media-type", "Unsupported content type", 415),
    UnsupportedImage: Kind("unsupported-image", "Not an image of an accepted format", 415),
    CorruptImage: Kind("corrupt-image", "Image is truncated or damaged", 422),
    ImageTooCostly: Kind("image-too-costly", "Image takes too much to decode", 422),
    InvalidRequest: Kind("invalid-request", "Invalid request", 422),
    HeadersTooLarge: Kind("headers-too-large", "Request headers too large", 431),
    RateLimited: Kind("rate-limited", "Too many requests of this client", 429),
    UnreadableFile: Kind("unreadable-file", "File cannot be read", 404),  # never delivered: offline only
    # 499 is nginx's convention. It is never delivered; it keeps these out of the 5xx in metrics.
    ClientDisconnected: Kind("client-disconnected", "Client closed the connection", 499),
    BundleRefused: Kind("bundle-refused", "Bundle refused", 409),
    ReloadRunning: Kind("reload-running", "A reload is running", 409),
    InferenceFailed: INTERNAL,
    NotReady: Kind("not-ready", "Service is not ready", 503),
    Overloaded: Kind("overloaded", "Service is overloaded", 503),
    DeadlinePassed: Kind("deadline-passed", "Deadline passed", 504),
}
"""Exception to what the client sees: the only place where this is decided."""

URN = "urn:dermaserve:problem:"


def kind_of(error: BaseException) -> Kind:
    """The kind of ``error``, by its nearest class in ``KINDS``; ``INTERNAL`` if none."""
    return next((KINDS[base] for base in type(error).__mro__ if base in KINDS), INTERNAL)


def detail_of(error: BaseException) -> str:
    """What a client may read of ``error``: nothing of those that we did not raise on purpose."""
    if kind_of(error) is INTERNAL:
        return "The request could not be processed. Quote the request_id when you report this."
    return str(error)
