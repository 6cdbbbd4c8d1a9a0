"""Give the memory of large uploads and images back to the system, in the service and where it decodes.

glibc raises its limit for separate mappings to the largest block ever freed, up to 32 MB. After a
few large photos all pixels then come from heaps that never shrink: a server measured at 100 MB
stayed at 1.2 GB. With a fixed limit it is back at 108 MB.

glibc also gives threads heaps of their own, up to eight per core, each of which keeps its own
leftovers: under 64 clients the shipped model's server grew from 250 to 450 MB in two minutes.

With a limit set by hand it gives a heap's end back whenever 128 kB of it are free, and the system must
fill the pages with zeros for the next image: 70 page faults for one of 600 x 450, a tenth of its time
beside inference.
"""

import ctypes
import logging
import os
import re
from contextlib import suppress
from pathlib import Path

_M_TRIM_THRESHOLD = -1  # <malloc.h>
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_ARENAS = 2  # enough for the few threads that allocate at the same time
_LIMIT = 4 * 1024 * 1024  # above a typical upload's pixels, which are faster from the heap
_KEPT = 16 * 1024 * 1024  # bytes at a heap's end: what a few images take while they are worked on

logger = logging.getLogger(__name__)


def return_free_pages() -> None:
    """Give back what is free in the heaps too: a model's weights are many blocks smaller than the limit.

    Without it a server that had exchanged the shipped model 20 times was at 870 MB instead of 250.
    """
    with suppress(AttributeError, OSError, TypeError):  # as below
        ctypes.CDLL(None).malloc_trim(0)


def return_large_blocks() -> None:
    """Map blocks from 4 MiB on separately, and share two heaps, where the C library can."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LIMIT)
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
    except (AttributeError, OSError, TypeError):  # not glibc: musl, macOS, Windows
        logger.debug("This C library has no mallopt; memory of large images may be kept.")


def memory_of_all() -> int:
    """Resident bytes of this process and of all that descend from it; shared pages count once.

    Takes some milliseconds. 0 where the system does not say, as outside of Linux. Read from /proc: psutil
    would be a compiled package more in the image for these few lines.
    """
    return sum(_proportional(process) for process in _tree(os.getpid()))


def _tree(process: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it has ended
        return []
    return [process, *(each for child in children for each in _tree(child))]


def _proportional(process: int) -> int:
    try:
        found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0
