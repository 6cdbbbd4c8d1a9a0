"""Pillow and the codecs under it, made ready for a server: loaded, and silent."""

import ctypes
import warnings

from PIL import Image, _imaging


def prepare_codecs() -> None:
    """Load all codecs, not on a client's time, and keep what is odd in a client's file out of the log.

    The answer says what there is to say. Pillow's warnings quote the file, and Python remembers each
    text for ever. libtiff writes to standard error itself: lines that are no JSON, and that make a
    request wait for a reader that stalls.
    """
    Image.init()
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    libtiff = ctypes.CDLL(_imaging.__file__)  # a library's symbols include those of what it is linked to
    if hasattr(libtiff, "TIFFSetErrorHandler"):  # not where Pillow was built without it
        libtiff.TIFFSetErrorHandler(None)
