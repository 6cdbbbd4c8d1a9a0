"""Keys, key files, and an application whose clock a test sets."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from service.admission.api_keys import line_of, new_token
from service.admission.auth import Authenticator
from tests.service.admission.test_api_keys import SECOND, Clock
from tests.service.app_client import Client

NORTH, SOUTH, ADMIN, STRANGER = (new_token() for _ in range(4))
LINES = (line_of("north", NORTH), line_of("chief", ADMIN, admin=True))


def sent(token: str) -> dict[str, str]:
    return {"x-api-key": token}


def write(path: Path, *lines: str) -> Path:
    """Replace a file at once, as an operator should."""
    new = path.with_name("new")
    new.write_text("".join(line + "\n" for line in lines))
    return new.replace(path)


class Keyed:
    """An app whose key file and clock belong to a test."""

    def __init__(self, door: Client, path: Path, clock: Clock) -> None:
        self.door = door
        self.path = path
        self.clock = clock

    def status(self, token: str) -> int:
        """The answer to ``token`` once the file was looked at again."""
        self.clock.now += SECOND
        return self.door.get("/model", headers=sent(token)).status_code


@contextmanager
def with_clock(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr("service.lifecycle.Authenticator", partial(Authenticator, clock=clock))
        yield


def metric(door: Client, name: str, **options: Any) -> float:
    text = door.get("/metrics", **options).text
    (line,) = [line for line in text.splitlines() if line.startswith(f"dermaserve_{name} ")]
    return float(line.split()[-1])
