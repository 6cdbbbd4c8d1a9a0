"""Processor time and memory of a server with all its processes."""

import os
from contextlib import suppress
from typing import NamedTuple

import psutil


class Usage(NamedTuple):
    """What a group of processes uses.

    Attributes:
        rss: resident memory in bytes, summed: each process counts the pages it shares.
        pss: the same, but each of ``n`` processes counts ``1/n`` of a page they share.
        processes: how many there are.
    """

    rss: int
    pss: int
    processes: int


def family(leader: int) -> set[psutil.Process]:
    """The process ``leader``, the others of its session, and the descendants of each.

    Some servers start their workers in sessions of their own, hence descendants too.
    """
    roots = [process for process in psutil.process_iter() if leader in (process.pid, _session(process.pid))]
    found = set(roots)
    for root in roots:
        with suppress(psutil.NoSuchProcess):
            found.update(root.children(recursive=True))
    return found


def usage(leader: int) -> Usage:
    """Memory of the ``family`` of ``leader``; a process that ends meanwhile does not count."""
    looks = []
    for process in family(leader):
        with suppress(psutil.NoSuchProcess):  # a zombie is one, too
            looks.append(process.memory_full_info())
    return Usage(sum(look.rss for look in looks), sum(look.pss for look in looks), len(looks))


def cpu_seconds(leader: int) -> float:
    """Processor time of the ``family`` of ``leader`` so far, including that of children that ended."""
    total = 0.0
    for process in family(leader):
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # user, system, and both of ended children
    return total


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; another process with the same id does not count, nor does a zombie."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0
