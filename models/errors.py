"""The exception tree of the contract.

DermaserveError
├── ImageError              an uploaded or training image cannot be used
│   ├── UnsupportedImage    not an image of a supported format
│   ├── ImageTooLarge       more pixels than the limit; found before decoding
│   ├── ImageTooCostly      decoding exceeds the time or memory limit
│   └── CorruptImage        a supported format, but truncated or damaged
└── BundleError             a model bundle is incomplete, altered or inconsistent

The message of an ImageError is written for the sender of the image. It never contains a path of the
server or the text of a library's exception, which stays in ``__cause__`` for the logs. The message of a
BundleError is written for the operator and names the file; clients get its attribute ``public``.
"""


class DermaserveError(Exception):
    """Base class of all errors that dermaserve raises itself."""


class ImageError(DermaserveError):
    """An image cannot be used; the message tells its sender why."""


class UnsupportedImage(ImageError):
    """The content is not an image of a supported format, whatever the file name or media type."""


class ImageTooLarge(ImageError):
    """The image has more pixels than the limit; it was not decoded."""


class ImageTooCostly(ImageError):
    """Decoding the image exceeds the limit on time or memory."""


class CorruptImage(ImageError):
    """The format is supported, but the content is truncated or damaged."""


class BundleError(DermaserveError):
    """A bundle fails verification; the message names the file or field and the reason.

    Attributes:
        public: the message without paths of the server and without the text of a library's exception.
    """

    def __init__(self, message: str, *, public: str | None = None) -> None:
        """Store ``message`` for the operator, and ``public`` (default: the same) for clients."""
        super().__init__(message)
        self.public = public or message
