"""Opens standard streams that are closed when the program starts."""

import os
import sys
from pathlib import Path


def fill_standard_streams() -> None:
    """Open those of the descriptors 0, 1 and 2 that are closed, so that no socket gets their numbers.

    libuv aborts the process when it closes such a low descriptor. The mode is wrong on purpose: reading and
    writing still fail, as on a closed descriptor, so that lost output is noticed.
    """
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest free number, which is this one
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open until the process ends
