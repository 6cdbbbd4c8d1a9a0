"""What another process uses of the machine."""

import re
from pathlib import Path
from typing import NamedTuple

import psutil


class Usage(NamedTuple):
    """One look at a process.

    Attributes:
        rss, peak: resident memory in bytes, now and at most so far.
        addresses: bytes of its address space.
        files: open file descriptors.
        threads: number of threads.
        cpu: seconds of processor time so far.
    """

    rss: int
    peak: int
    addresses: int
    files: int
    threads: int
    cpu: float


def usage(pid: int) -> Usage:
    """Look at the process ``pid``.

    Raises:
        psutil.Error: it has ended, or belongs to another user.
    """
    process = psutil.Process(pid)
    memory, times = process.memory_info(), process.cpu_times()
    peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())  # psutil has no peak
    return Usage(
        rss=memory.rss,
        peak=int(peak[1]) * 1024 if peak else memory.rss,
        addresses=memory.vms,
        files=process.num_fds(),
        threads=process.num_threads(),
        cpu=times.user + times.system,
    )
