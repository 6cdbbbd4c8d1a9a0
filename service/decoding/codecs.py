"""Pillow, pydicom and the codecs, made ready in a process that decodes: loaded, and silent."""

import ctypes
import logging
import warnings
from contextlib import suppress
from importlib import import_module

from PIL import Image, _imaging


def prepare_codecs() -> None:
    """Load all codecs, not on a client's time, and write nothing that a client's file makes them say.

    The answer says what there is to say. Warnings and log lines quote the file, and Python keeps the
    text of each warning. libtiff writes to standard error itself.
    """
    with suppress(ModuleNotFoundError):  # the extra "dicom" is not installed
        import_module("models.dicom")
    Image.init()
    warnings.simplefilter("ignore")
    # Raised, not shown: the image is refused for its size.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    logging.disable()
    libtiff = ctypes.CDLL(_imaging.__file__)  # a library's symbols include those of what it is linked to
    if hasattr(libtiff, "TIFFSetErrorHandler"):  # not where Pillow was built without it
        libtiff.TIFFSetErrorHandler(None)
