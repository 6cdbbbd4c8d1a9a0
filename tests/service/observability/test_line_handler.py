"""The handler that writes log lines in a thread: it blocks nothing, and counts the lines that it loses."""

import io
import json
import logging
import threading
from typing import Any

import pytest

from service.observability.logs import JsonFormatter, LineHandler
from tests.service.app_client import wait_for
from tests.service.observability.log_lines import lines


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "service")


class Stream(io.RawIOBase):
    """A stream that takes ten bytes at a time, or fails as files do."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.stalled = threading.Event()
        self.stalled.set()
        self.written = b""
        self.room = 1_000_000

    def write(self, data: Any) -> int:
        self.stalled.wait(60)
        if self.error is not None:
            raise self.error
        if self.room == 0:
            raise OSError(28, "No space left on device")
        taken = bytes(data[: min(10, self.room)])
        self.room -= len(taken)
        self.written += taken
        return len(taken)

    def lines(self) -> list[dict[str, Any]]:
        return lines(self.written.decode())


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), BrokenPipeError(32, "Broken pipe"), ValueError("closed file")],
)
def test_lines_that_cannot_be_written_are_lost_and_counted(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = Stream(error)
    handler = LineHandler(stream)
    handler.setFormatter(JsonFormatter())
    log = logging.getLogger("service.observability.logs")
    monkeypatch.setattr(log, "propagate", False)  # pytest's own handler raises where ours must not
    log.addHandler(handler)
    try:
        for _ in range(3):
            log.info("lost")
        log.info("an argument %s too few, and one that is no number %d", "x", "y")
        handler.flush()
        stream.error = None
        log.info("found")
        handler.flush()
    finally:
        log.removeHandler(handler)
    found, lost = stream.lines()
    assert found["message"] == "found"
    assert (lost["event"], lost["lines"]) == ("lines_lost", 4)
    assert capfd.readouterr().err == ""


def test_an_incomplete_line_does_not_damage_the_next() -> None:
    stream = Stream()
    handler = LineHandler(stream)
    handler.setFormatter(JsonFormatter())
    for message, room in (("before", 1000), ("cut off", 25), ("lost", 0), ("after", 1000)):
        stream.room = room
        handler.handle(logging.LogRecord("service", logging.INFO, "", 0, message, (), None))
        handler.flush()
    first, cut, *rest = stream.written.decode().splitlines()
    assert (json.loads(first)["message"], len(cut)) == ("before", 25)
    after, lost = lines("\n".join(rest))
    assert (after["message"], lost["lines"]) == ("after", 2)


def test_a_stalled_stream_does_not_block_logging() -> None:
    stream = Stream()
    stream.stalled.clear()
    handler = LineHandler(stream, max_waiting=100)
    handler.setFormatter(JsonFormatter())
    for number in range(500):
        handler.handle(logging.LogRecord("service", logging.INFO, "", 0, "%d", (number,), None))
    stream.stalled.set()
    handler.flush()
    numbers = [int(line["message"]) for line in stream.lines() if "message" in line]
    assert numbers[:100] == list(range(100))
    assert len(numbers) < 500


def test_a_warning_or_a_flush_writes_the_gathered_lines_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.observability.logs._GATHER_SECONDS", 600.0)
    stream = Stream()
    handler = LineHandler(stream)
    handler.setFormatter(JsonFormatter())

    def log(level: int, message: str) -> None:
        handler.handle(logging.LogRecord("service", level, "", 0, message, (), None))

    log(logging.INFO, "one")
    log(logging.WARNING, "two")
    wait_for(lambda: stream.written.count(b"\n") == 2)
    log(logging.INFO, "three")
    handler.flush()
    assert [line["message"] for line in stream.lines()] == ["one", "two", "three"]
