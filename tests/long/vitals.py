"""What another process takes of the machine, read where Linux keeps it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Vitals:
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


def vitals(pid: int) -> Vitals:
    """Look at the process ``pid``.

    Raises:
        OSError: it is gone, or not ours to look at.
    """
    folder = Path("/proc", str(pid))
    status = dict(re.findall(r"^(\w+):\s+(\d+)", (folder / "status").read_text(), re.MULTILINE))
    # The name, in parentheses, may hold spaces; user and system time are fields 14 and 15.
    times = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
    return Vitals(
        rss=int(status["VmRSS"]) * 1024,
        peak=int(status["VmHWM"]) * 1024,
        addresses=int(status["VmSize"]) * 1024,
        files=len(list((folder / "fd").iterdir())),
        threads=int(status["Threads"]),
        cpu=sum(map(int, times)) / os.sysconf("SC_CLK_TCK"),
    )
