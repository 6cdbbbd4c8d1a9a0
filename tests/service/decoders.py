"""The processes that decode, as the system shows them: found, stopped, killed, measured."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Thread

import psutil

from tests.service.app_client import wait_for


def tree(pid: int) -> list[int]:
    """``pid`` and all its descendants; empty if it has ended."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def lives(pid: int) -> bool:
    """Whether it runs: a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def named(pid: int, name: str) -> bool:
    try:
        return psutil.Process(pid).name() == name
    except psutil.NoSuchProcess:
        return False


class Decoders:
    """Those of the process ``pid``, but for ``others``: of another server in it."""

    def __init__(self, pid: int, others: Sequence[int] = ()) -> None:
        self._pid = pid
        self._others = others

    @property
    def all(self) -> list[int]:
        """The fork_server, and what it has forked."""
        return [pid for pid in tree(self._pid)[1:] if pid not in self._others and lives(pid)]

    @property
    def decoding(self) -> list[int]:
        return [pid for pid in self.all if named(pid, "decoder")]

    def begun(self) -> None:
        """Wait until one that decodes is there, and bears its name."""
        wait_for(lambda: bool(self.decoding))

    @property
    def fork_server(self) -> int:
        (fork_server,) = set(self.all) - set(self.decoding)
        return fork_server

    def send(self, number: int) -> None:
        """Signal those that decode."""
        self.begun()
        for pid in self.decoding:
            os.kill(pid, number)

    @contextmanager
    def stopped(self, *, fork_server: bool = False) -> Iterator[None]:
        """What is sent meanwhile waits for as long as the block, or until it is killed."""
        self.begun()
        pids = [*self.decoding, *([self.fork_server] if fork_server else [])]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


@contextmanager
def peak_memory(pid: int) -> Iterator[Callable[[], int]]:
    """The most bytes that the process and its descendants have held at one time within the block."""
    peak = 0
    done = Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, sum(proportional(each) for each in tree(pid)))

    thread = Thread(target=watch)
    thread.start()
    try:
        yield lambda: peak
    finally:
        done.set()
        thread.join()


def proportional(pid: int) -> int:
    """Resident bytes; pages shared by n processes count 1/n. 0 if it has ended."""
    try:
        found: int = psutil.Process(pid).memory_full_info().pss
    except psutil.NoSuchProcess:
        return 0
    return found


def wait_until_gone(pids: list[int]) -> None:
    wait_for(lambda: not any(lives(pid) for pid in pids))
