"""API keys: creates them, reads their hashes from a file, and looks them up in constant time.

The file has one key per line, ``NAME sha256:HEX [role=admin] [rate=N]``, and comments after ``#``. It may
change while the service runs.

The hash is a plain SHA-256, without salt or stretching. Those protect passwords from guessing, and nobody
can guess 256 random bits. For this reason only tokens in the format of ``new_token`` are accepted. A password
never is, even if the file has its hash.
"""

import asyncio
import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from service.errors import SettingsError
from service.settings import HIGHEST_RATE, Settings
from service.system.threads import in_thread

logger = logging.getLogger(__name__)

_TOKEN = re.compile(r"dsk_[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH = re.compile(r"sha256:([0-9A-Fa-f]{64})")
_RATE = re.compile(r"rate=([1-9][0-9]{0,6})")
_MAX_BYTES = 1_000_000
_READ_EVERY = 1.0  # seconds
_READ_SECONDS = 0.5  # longest time that a request waits for the file
_VARIABLE = "DERMASERVE_API_KEYS_FILE"


class Key(NamedTuple):
    """One line of the file. ``digest`` is the SHA-256 of the token; ``rate`` is in images per minute."""

    name: str
    digest: bytes
    admin: bool = False
    rate: int | None = None


def new_token() -> str:
    """Return a new key as clients send it: 256 random bits, with a prefix that secret scanners can find."""
    return "dsk_" + secrets.token_urlsafe(32)


def line_of(name: str, token: str, *, admin: bool = False, rate: int | None = None) -> str:
    """Return the line of the key file for ``token``.

    Raises:
        ValueError: the name or the rate is not valid.
    """
    words = [name, "sha256:" + hashlib.sha256(token.encode()).hexdigest()]
    words += ["role=admin"] * admin + ([f"rate={rate}"] if rate is not None else [])
    _parse_line(words)
    return " ".join(words)


@lru_cache(maxsize=1)  # the same text is read every second
def parse_keys(text: str) -> tuple[Key, ...]:
    """Parse the text of a key file. The result is empty if there are only comments.

    Raises:
        SettingsError: lines are not valid. Lines are not quoted, because one may contain a secret by mistake.
    """
    keys: list[Key] = []
    names: set[str] = set()
    digests: set[bytes] = set()
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            key = _parse_line(words)
            if key.name in names:
                raise ValueError(f"the name {key.name} is used in an earlier line")
            if key.digest in digests:
                raise ValueError("the key is in an earlier line, with another name")
            keys.append(key)
            names.add(key.name)
            digests.add(key.digest)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise SettingsError(problems)
    return tuple(keys)


def _parse_line(words: list[str]) -> Key:
    name, *rest = words
    if not _NAME.fullmatch(name):
        raise ValueError("expected first a name of 1 to 64 letters, digits, '.', '_' or '-'")
    digest = _HASH.fullmatch(rest[0]) if rest else None
    if digest is None:
        raise ValueError("expected sha256: and 64 hexadecimal digits after the name")
    admin, rate = False, None
    for option in rest[1:]:
        found = _RATE.fullmatch(option)
        if option == "role=admin" and not admin:
            admin = True
        elif found and rate is None and int(found[1]) <= HIGHEST_RATE:
            rate = int(found[1])
        else:
            raise ValueError(
                f"expected role=admin or rate=N (1 to {HIGHEST_RATE}), each once, after the hash"
            )
    return Key(name, bytes.fromhex(digest[1]), admin, rate)


def read_keys(path: Path) -> tuple[Key, ...]:
    """Read a key file. The result is empty if there are only comments.

    Raises:
        SettingsError: the file cannot be read, everyone may write to it, or lines are not valid.
    """
    try:
        # Opening or reading a named pipe would block. What is opened may no longer be what was there before.
        with open(path, "rb", opener=_open_without_blocking) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise _unusable(path, "is not a regular file")
            if about.st_mode & stat.S_IWOTH:
                raise _unusable(path, "is writable by everyone; run chmod o-w on it")
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror})") from error
    if len(data) > _MAX_BYTES:
        raise _unusable(path, f"is larger than {_MAX_BYTES:,} bytes")
    try:
        return parse_keys(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _unusable(path, "is not UTF-8 text") from error
    except SettingsError as error:
        raise _unusable(path, *error.problems) from error


def _open_without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def read_keys_again(path: Path) -> tuple[Key, ...]:
    """Read a key file that may be being written. It may be empty for a moment, so it is read twice then.

    Raises:
        SettingsError: as in ``read_keys``.
    """
    if keys := read_keys(path):
        return keys
    time.sleep(_READ_SECONDS / 2)
    return read_keys(path)


def first_keys(path: Path) -> tuple[Key, ...]:
    """Read the key file at start.

    Raises:
        SettingsError: as in ``read_keys``, or the file has no key.
    """
    if keys := read_keys(path):
        return keys
    raise _unusable(path, "has no key; `python -m service key NAME` makes one")


def check_key_file(settings: Settings) -> None:
    """Raise SettingsError if the settings name a key file that cannot be used or has no key."""
    if settings.api_keys_file is not None:
        first_keys(settings.api_keys_file)


def _unusable(path: Path, *problems: str) -> SettingsError:
    return SettingsError([f"{_VARIABLE}: {path} {problem}" for problem in problems])


class KeyRing:
    """The valid keys. ``refresh`` reads the file again in a thread, at most once per second.

    The whole file is read each time, because it is small. Comparing modification times could miss a change
    within one tick of the file system's clock. If the file cannot be used, the log says so once, and the last
    keys stay valid. If the file has no keys, all requests are rejected. If the file system hangs, requests
    wait half a second in total.

    Attributes:
        keys: the valid keys.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file.

        Raises:
            SettingsError: the file cannot be used or has no key.
        """
        self.keys = first_keys(path)
        self._path = path
        self._clock = clock
        self._problem = ""
        self._read_at = clock()
        self._reading: asyncio.Future[tuple[Key, ...]] | None = None
        self._late = False  # whether requests no longer wait for the read in progress

    def find(self, token: str) -> Key | None:
        """Return the key of ``token``, or None. The time does not depend on which key matches, if any."""
        if not _TOKEN.fullmatch(token):
            return None
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        for key in self.keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    async def refresh(self) -> None:
        """Read the file again if the last read is a second old, and wait up to half a second for it."""
        if self._reading is None and self._clock() - self._read_at >= _READ_EVERY:
            self._begin()
        if self._reading is not None and not self._late:
            await asyncio.wait({self._reading}, timeout=_READ_SECONDS)
            self._late = self._reading is not None
            if self._late:
                self._report(f"{_VARIABLE}: reading {self._path} takes more than {_READ_SECONDS} seconds")

    async def reload(self) -> None:
        """Read the file now, and log its problems even if they were logged before."""
        self._problem, self._late = "", False
        self._begin()
        await self.refresh()

    def _begin(self) -> None:
        """Read the file in a thread. The result of an earlier read in progress is ignored."""
        self._read_at = self._clock()
        try:
            self._reading = asyncio.wrap_future(in_thread(read_keys_again, self._path))
        except MemoryError:
            return  # no thread could be started; the next refresh tries again
        self._reading.add_done_callback(self._take)

    def _take(self, reading: "asyncio.Future[tuple[Key, ...]]") -> None:
        if reading is not self._reading:
            return
        self._reading, self._late = None, False
        error = reading.exception()
        if error is not None:
            self._report("; ".join(error.problems) if isinstance(error, SettingsError) else repr(error))
            return
        self._problem = ""
        keys = reading.result()
        if keys != self.keys:
            self.keys = keys
            names = ", ".join(key.name for key in keys)
            if keys:
                logger.info("The API keys changed. Valid now: %s", names)
            else:
                logger.error("The key file has no keys now. All requests that need a key are rejected.")

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            logger.error("The earlier API keys stay valid: %s", problem)
        self._problem = problem
