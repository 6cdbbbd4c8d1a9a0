"""One exception tree for everything the contract can refuse.

DermaserveError
├── ImageError              an uploaded or training image cannot be used
│   ├── UnsupportedImage    the bytes are no image of an accepted format
│   ├── ImageTooLarge       more pixels than the limit, decided before decoding
│   ├── ImageTooCostly      decoding takes more time or memory than an image may
│   └── CorruptImage        an accepted format, but truncated or damaged
└── BundleError             a model bundle is incomplete, altered or inconsistent

Messages are written for the person who sent the input: they never hold a path of the server or
the text of a library's exception (that stays in ``__cause__``, for logs). Those of BundleError are for
the operator and name the file; its ``public`` is for others.
"""


class DermaserveError(Exception):
    """Base of every error that dermaserve raises on purpose."""


class ImageError(DermaserveError):
    """An image cannot be used; the message says why in words for its sender."""


class UnsupportedImage(ImageError):
    """The bytes are not an image of an accepted format, whatever their name or type claims."""


class ImageTooLarge(ImageError):
    """The image has more pixels than the limit; nothing of it was decoded."""


class ImageTooCostly(ImageError):
    """Decoding the image takes more time or memory than an image may."""


class CorruptImage(ImageError):
    """The format is accepted, but the content is truncated or damaged."""


class BundleError(DermaserveError):
    """A bundle fails verification; the message names the file or field and why.

    Attributes:
        public: the same for those who may read neither paths of the server nor a library's words.
    """

    def __init__(self, message: str, *, public: str | None = None) -> None:
        """Refuse with ``message``, and ``public`` where that has to say less."""
        super().__init__(message)
        self.public = public or message
