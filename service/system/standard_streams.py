"""Standard input, output and error that are closed when the program starts."""

import os
import sys
from pathlib import Path


def fill_standard_streams() -> None:
    """Open what is closed of the descriptors 0, 1 and 2, so that no socket takes their numbers.

    libuv aborts the process when it closes a descriptor that low. The mode is the wrong one on purpose:
    reading or writing still fails as on a closed descriptor, so that no output is lost unnoticed.
    """
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free number, which is this one
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends
