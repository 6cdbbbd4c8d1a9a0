"""The exceptions of the service, and the table that maps them to HTTP status codes.

DermaserveError
├── ImageError ...            from models.errors: the image cannot be used
├── BundleError               from models.errors: the process does not become ready
├── SettingsError             a setting is wrong: the process does not start
├── DeviceError               the required GPU does not work: the process does not become ready
├── UnreadableFile            offline: the row says why
├── OptionError               offline: an option is wrong, or does not go with another
├── MetadataFileError         offline: the file with paths, or age, sex and site, cannot be used
├── OutputError               offline: rows cannot be written, and the run ends
├── BridgeError               only in the DICOM bridge, which answers no requests
│   ├── Away                  the archive or the service does not answer now; the bridge waits
│   ├── InstanceRefused       an instance cannot be read, scored or stored; the bridge goes on with the next
│   └── BridgeStopped         the bridge cannot go on
├── StoreError                offline: a file system cannot be used, and the run ends
├── ClusterError              offline: the Ray cluster cannot be used, and the run ends
├── RequestError              the request cannot be read
│   ├── BodyTooLarge
│   ├── UnsupportedMediaType
│   ├── InvalidRequest
│   ├── UnknownModel
│   ├── MalformedRequest      not HTTP/1.1
│   ├── HeadersTooLarge
│   ├── HeadersTooSlow
│   └── UploadTooSlow
├── Unauthorized              no valid API key
├── Forbidden                 the key lacks the role
├── Unavailable               temporary; has ``retry_after`` in seconds
│   ├── NotReady
│   │   ├── ShuttingDown
│   │   └── Stuck
│   ├── Overloaded
│   │   └── NoMemory
│   └── RateLimited           a limit of this client
├── DeadlinePassed            the request took too long
├── ClientDisconnected        no client waits for the response
├── BundleRefused             a reload failed; the old model stays in service
├── ReloadRunning             another reload is running
└── InferenceFailed           the model failed

Messages are written for clients: they contain no paths and no messages of libraries. Only messages about
settings, options, bundles and output, which are for the operator, name files.
"""

from collections.abc import Sequence
from typing import NamedTuple

from models.errors import CorruptImage, DermaserveError, ImageTooCostly, ImageTooLarge, UnsupportedImage


class SettingsError(DermaserveError):
    """One or more settings are wrong. ``problems`` has a line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class DeviceError(DermaserveError):
    """The required device does not work."""


class UnreadableFile(DermaserveError):
    """A local file cannot be read."""


class OptionError(DermaserveError):
    """An option of a command is wrong, or does not go with another."""


class MetadataFileError(DermaserveError):
    """A file with the paths of images, or with their age, sex and site, cannot be used."""


class OutputError(DermaserveError):
    """The output of a run cannot be written."""


class BridgeError(DermaserveError):
    """The DICOM bridge failed. The message is for its log, and contains no values of DICOM files."""


class Away(BridgeError):
    """The archive or the service does not answer now, but may answer later."""

    def __init__(self, detail: str, *, retry_after: float = 0, fault: bool = False) -> None:
        """Set the text.

        Args:
            detail: for the log.
            retry_after: seconds that the other side asks to wait.
            fault: whether the other side answered, but with a fault that may be due to the instance. It is
                asked a few times only.
        """
        super().__init__(detail)
        self.retry_after = retry_after
        self.fault = fault


class InstanceRefused(BridgeError):
    """An instance cannot be read, scored or stored. Others are not affected."""


class InstanceFaulty(InstanceRefused):
    """An instance met a fault each time it was tried. The fault may also be due to the other side."""


class BridgeStopped(BridgeError):
    """The bridge cannot go on until its operator changes something."""


class StoreError(DermaserveError):
    """A file system cannot be used, for example because credentials are wrong. No single file is at fault."""


class ClusterError(DermaserveError):
    """The Ray cluster cannot be used."""


class RequestError(DermaserveError):
    """The request cannot be read."""


class BodyTooLarge(RequestError):
    """The body exceeds the byte limit. At most the limit was read."""


class UnsupportedMediaType(RequestError):
    """The content type is neither multipart nor an accepted image type."""


class Fault(NamedTuple):
    """One fault of a request and its place, as in RFC 9457, section 3.

    Attributes:
        detail: the fault, for people.
        parameter: name of the query parameter with the fault.
        pointer: JSON pointer to the part of the body with the fault, such as ``#/file`` or ``#/files/3``, or
            ``#`` for the whole body.
    """

    detail: str
    parameter: str | None = None
    pointer: str | None = None


class InvalidRequest(RequestError):
    """A part of the body is missing or malformed, or a parameter is not valid.

    Attributes:
        faults: may be empty.
    """

    def __init__(
        self,
        detail: str,
        *,
        parameter: str | None = None,
        pointer: str | None = None,
        faults: Sequence[Fault] = (),
    ) -> None:
        """Create the exception with one fault at ``parameter`` or ``pointer``, or with several ``faults``."""
        super().__init__(detail)
        fault = Fault(detail, parameter, pointer)
        self.faults = tuple(faults) or ((fault,) if parameter or pointer else ())


class UnknownModel(RequestError):
    """The server has no model of the name, or not the version, that the request names."""


class MalformedRequest(RequestError):
    """The bytes are not HTTP/1.1, or are ambiguous. The connection is closed."""


class HeadersTooLarge(RequestError):
    """Request line and headers exceed the byte limit. The connection is closed."""


class HeadersTooSlow(RequestError):
    """The headers were not complete in time. The connection is closed."""


class UploadTooSlow(RequestError):
    """The body arrived below the minimum rate. The connection is closed."""


class Unavailable(DermaserveError):
    """The request cannot be served now, but a retry may succeed."""

    def __init__(self, detail: str, *, reason: str, retry_after: int) -> None:
        """Set ``detail`` for people, ``reason`` for metrics and ``retry_after`` in seconds."""
        super().__init__(detail)
        self.reason = reason
        self.retry_after = retry_after


class NotReady(Unavailable):
    """The server is starting, shutting down, stuck or failed."""


class ShuttingDown(NotReady):
    """The server accepts no new requests."""

    def __init__(self) -> None:
        super().__init__("The server is shutting down.", reason="draining", retry_after=5)


class Stuck(NotReady):
    """Inference or decoding hangs, or has crashed. The process must be restarted."""

    def __init__(self) -> None:
        super().__init__("The server has stopped working on images.", reason="stuck", retry_after=60)


class Overloaded(Unavailable):
    """The server has as many requests or bytes in progress as it accepts."""


class NoMemory(Overloaded):
    """There is not enough memory. This does not depend on the image."""

    def __init__(self) -> None:
        super().__init__(
            "The server does not have enough memory for this image now.", reason="memory", retry_after=1
        )


class RateLimited(Unavailable):
    """The client exceeds its rate or its limit of concurrent requests."""


class Unauthorized(DermaserveError):
    """The request has no valid API key."""


class Forbidden(DermaserveError):
    """The API key lacks the required role."""


class DeadlinePassed(DermaserveError):
    """The deadline passed before the response was ready."""


class ClientDisconnected(DermaserveError):
    """The client disconnected, and its request was cancelled."""


class BundleRefused(DermaserveError):
    """A reload found a bundle that cannot be served. The old model stays in service."""


class ReloadRunning(DermaserveError):
    """Another reload is running."""


class InferenceFailed(DermaserveError):
    """The model failed, or its outputs are not valid."""


class Kind(NamedTuple):
    """A type of problem: ``type`` and ``title`` of RFC 9457, and the HTTP status."""

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
    UnknownModel: Kind("unknown-model", "No such model", 404),
    HeadersTooLarge: Kind("headers-too-large", "Request headers too large", 431),
    RateLimited: Kind("rate-limited", "Too many requests of this client", 429),
    UnreadableFile: Kind("unreadable-file", "File cannot be read", 404),  # only offline, never sent
    # 499 is nginx's convention. It is never sent, and keeps disconnects out of the 5xx in metrics.
    ClientDisconnected: Kind("client-disconnected", "Client closed the connection", 499),
    BundleRefused: Kind("bundle-refused", "Bundle refused", 409),
    ReloadRunning: Kind("reload-running", "A reload is running", 409),
    InferenceFailed: INTERNAL,
    NotReady: Kind("not-ready", "Service is not ready", 503),
    Overloaded: Kind("overloaded", "Service is overloaded", 503),
    DeadlinePassed: Kind("deadline-passed", "Deadline passed", 504),
}
"""Maps each exception to the type of problem that clients see."""

URN = "urn:dermaserve:problem:"


def kind_of(error: BaseException) -> Kind:
    """Return the kind of the nearest base class of ``error`` in ``KINDS``, or ``INTERNAL``."""
    return next((KINDS[base] for base in type(error).__mro__ if base in KINDS), INTERNAL)


def detail_of(error: BaseException) -> str:
    """Return the message of ``error`` for clients. Messages of unexpected errors are replaced."""
    if kind_of(error) is INTERNAL:
        return "The request could not be processed. Quote the request_id when you report this."
    return str(error)
