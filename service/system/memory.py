"""Settings of glibc's allocator that return the memory of large images to the system, and memory figures.

The service and its decoding processes use them, for three reasons:

- glibc raises its threshold for separate mappings to the largest block that was ever freed, up to 32 MB.
  After a few large photos, all pixels come from heaps that never shrink: a server of 100 MB stayed at 1.2 GB.
  With a fixed threshold it returned to 108 MB.
- glibc gives threads up to eight heaps per core, and each keeps its free blocks. With 64 clients, the server
  of the shipped model grew from 250 to 450 MB in two minutes.
- With a fixed threshold, glibc returns the end of a heap as soon as 128 kB of it are free. The system then
  fills the pages with zeros for the next image: 70 page faults for an image of 600 x 450, a tenth of its time
  without inference.
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
_ARENAS = 2  # few threads allocate at the same time
_MMAP_THRESHOLD = 4 * 1024 * 1024  # bytes; the pixels of a typical upload are smaller, and come from the heap
_TRIM_THRESHOLD = 16 * 1024 * 1024  # bytes; enough for a few images

logger = logging.getLogger(__name__)


def return_free_pages() -> None:
    """Return the free pages of the heaps to the system, such as those of a loaded file or a closed model.

    The weights of a model are in many blocks below the threshold. Without this call, a server that had
    reloaded the shipped model 20 times took 870 MB instead of 250.
    """
    with suppress(AttributeError, OSError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def return_large_blocks() -> None:
    """Use separate mappings for blocks from 4 MiB on, and two heaps, if the C library is glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
    except (AttributeError, OSError, TypeError):  # not glibc: musl, macOS, Windows
        logger.debug("This C library has no mallopt. The process may keep the memory of large images.")


def total_memory() -> int:
    """Return the resident bytes of this process and its descendants, with shared pages counted once.

    Takes some milliseconds. Returns 0 where ``/proc`` is missing. Reads ``/proc`` itself, because psutil
    would add a compiled package to the image for these few lines.
    """
    return sum(_proportional_set_size(process) for process in _process_tree(os.getpid()))


def _process_tree(process: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # the process has ended
        return []
    return [process, *(each for child in children for each in _process_tree(child))]


def _proportional_set_size(process: int) -> int:
    try:
        match = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return 1024 * int(match[1]) if match else 0
