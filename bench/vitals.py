"""What a server with all its processes takes of the machine, read where Linux keeps it."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_TICK = os.sysconf("SC_CLK_TCK")


class Vitals(NamedTuple):
    """One look at a group of processes.

    Attributes:
        cpu: seconds of processor time so far; of ended processes, those whose parent lives.
        rss: resident memory in bytes, summed: what processes share counts in each.
        pss: the same, but what ``n`` processes share counts ``1/n`` in each.
        peak: the sum of the most that each had resident so far, in bytes.
        processes: how many there are.
    """

    cpu: float
    rss: int
    pss: int
    peak: int
    processes: int


def family(leader: int) -> list[int]:
    """Process ids of ``leader``, its session and all that descend from either.

    Some servers move their workers to sessions of their own, hence both.
    """
    parents, found = {}, set()
    for pid, fields in _processes():
        parents[pid] = int(fields[1])
        if leader in (pid, int(fields[3])):
            found.add(pid)
    grown = True
    while grown:
        children = {pid for pid, parent in parents.items() if parent in found} - found
        found |= children
        grown = bool(children)
    return sorted(found)


def started(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine did; None if it has ended.

    Together with its id it tells a process from a later one of the same id.
    """
    fields = _stat(pid)
    return None if fields is None or fields[0] == "Z" else int(fields[19])


def vitals(leader: int) -> Vitals:
    """Look at ``leader`` with all of ``family``; a process that ends meanwhile counts as gone."""
    looks = [look for pid in family(leader) if (look := _look(pid)) is not None]
    return Vitals(
        cpu=sum(look.cpu for look in looks),
        rss=sum(look.rss for look in looks),
        pss=sum(look.pss for look in looks),
        peak=sum(look.peak for look in looks),
        processes=len(looks),
    )


def cpu_seconds(leader: int) -> float:
    """Processor time of ``family`` so far, in seconds: the cheap part of ``vitals``."""
    return _cpu_of(family(leader))


def _processes() -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))) is not None:
            yield int(folder.name), fields


def _stat(pid: int) -> list[str] | None:
    """Fields of ``/proc/PID/stat`` from the third on; the name before may hold spaces."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _cpu_of(pids: Iterable[int]) -> float:
    return sum(_cpu(fields) for pid in pids if (fields := _stat(pid)) is not None)


def _cpu(fields: list[str]) -> float:
    # User and system time, its own and that of its children that ended.
    return sum(map(int, fields[11:15])) / _TICK


def _look(pid: int) -> Vitals | None:
    fields = _stat(pid)
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    sizes = {key: int(value) * 1024 for key, value in re.findall(r"^(\w+):\s+(\d+) kB", status, re.MULTILINE)}
    pss = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    if fields is None or pss is None or "VmRSS" not in sizes:  # it has just ended
        return None
    return Vitals(_cpu(fields), sizes["VmRSS"], int(pss[1]) * 1024, sizes["VmHWM"], 1)
