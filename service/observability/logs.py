"""Logs on standard error, one event a line: JSON for machines, or text for people.

What a client sends cannot forge a line or a field: JSON escapes it, and so does the text format.
Lines are written by a thread of their own, up to 50 ms late: a process that is killed takes the last of
them with it. A reader that stalls, a closed pipe or a full disk costs
lines, which are counted in the log once it can be written again; it costs no request.
"""

import io
import json
import logging
import queue
import sys
import threading
import time
import warnings
from collections import Counter
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

from service.observability.request_record import RequestRecord
from service.system.threads import show_name

_FLUSH_SECONDS = 2.0
_GATHER_SECONDS = 0.05

_ENCODER = json.JSONEncoder(default=str)  # json.dumps would make one for each line

logger = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII: time, level, event, then what belongs to the event."""

    def format(self, record: logging.LogRecord) -> str:
        """``record`` as JSON; the fields of an event are its ``fields``, from ``extra``."""
        fields = getattr(record, "fields", None)
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "message"),
        }
        line |= fields if fields is not None else {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _ENCODER.encode(line)


class TextFormatter(logging.Formatter):
    """A line for people. Only lines of ours begin at the left: further ones are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """``record`` as text, with everything unprintable escaped."""
        text = f"{_time(record)} {record.levelname} {record.name}: {_printable(record.getMessage())}"
        if record.exc_info:
            lines = self.formatException(record.exc_info).splitlines()
            text += "".join(f"\n    {_printable(line)}" for line in lines)
        return text


class LineHandler(logging.Handler):
    """Writes lines to a stream from a thread of its own; never blocks, never raises.

    Not ``QueueHandler`` and ``QueueListener``: with a full queue the first writes to standard error from the
    thread that logs, and ``stop`` of the second waits without end for a reader that stalls.
    """

    def __init__(self, stream: io.RawIOBase, max_waiting: int = 10_000) -> None:
        """Start the thread.

        Args:
            stream: unbuffered: the lock of a buffer that stalls would also stall the exit. Never closed.
            max_waiting: most lines in memory, of some 500 bytes; more are lost.
        """
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | threading.Event] = queue.Queue(max_waiting)
        self._dropped = 0  # counted by those who log, one at a time: logging holds a lock
        self._failed = 0  # counted by the thread
        self._reported = 0
        self._torn = False  # a disk was full in the middle of a line
        self._hurry = threading.Event()
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or drop it where too many wait; a warning and worse is written at once."""
        if record.levelno >= logging.WARNING:
            self._hurry.set()
        try:
            self._lines.put_nowait(self.format(record))
        except Exception:
            # A full queue, or a message whose arguments do not fit: neither is a request's fault.
            self._dropped += 1

    def flush(self) -> None:
        """Wait until what was logged before is written, for a bounded time."""
        written = threading.Event()
        self._hurry.set()
        try:
            self._lines.put(written, timeout=_FLUSH_SECONDS)
        except queue.Full:
            return
        written.wait(_FLUSH_SECONDS)

    def _write_all(self) -> None:
        show_name()
        while True:
            if self._lines.empty():
                # To wake this thread costs a request more than all else that is done for its line: those
                # that come meanwhile find it awake.
                self._hurry.wait(_GATHER_SECONDS)
                self._hurry.clear()
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
            elif self._write(line) and (lost := self._dropped + self._failed - self._reported):
                self._reported += lost
                self._write(self.format(_lost_lines(lost)))  # not by the logger, which may wait for us

    def _write(self, line: str) -> bool:
        whole = left = b"\n" * self._torn + line.encode("utf-8", "backslashreplace") + b"\n"
        try:
            while left:
                count = self._stream.write(left)
                if count is None:  # not a blocking one, and full
                    time.sleep(0.05)
                else:
                    left = left[count:]
        except (OSError, ValueError):  # ValueError: the stream was closed
            self._failed += 1
            if written := whole[: len(whole) - len(left)]:
                self._torn = not written.endswith(b"\n")
            return False
        self._torn = False
        return True


def set_up_logs(format_: Literal["json", "text"], level: str) -> None:
    """Log to standard error, warnings and what nobody catches too.

    What we and uvicorn do is logged from ``level`` on; of libraries, warnings only: Pillow's debug
    messages hold the tags of an image, and with them the names of patients.
    """
    handler = LineHandler(io.FileIO(sys.stderr.fileno(), "w", closefd=False))
    handler.setFormatter(JsonFormatter() if format_ == "json" else TextFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in ("service", "uvicorn"):
        logging.getLogger(name).setLevel(level.upper())
    warnings.showwarning = _log_warning
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def log_request(record: RequestRecord, *, audit: bool) -> None:
    """One line for one request; with ``audit`` also what was said of each image."""
    fields: dict[str, Any] = {
        "request_id": record.request_id,
        "method": record.method,
        "route": record.route,
        "status": record.status,
        "duration_seconds": round(record.duration, 6),
        "bytes_received": record.bytes_received,
        "bytes_sent": record.bytes_sent,
        "images": record.images,
        "stage_seconds": {name: round(seconds, 6) for name, seconds in record.seconds().items()},
        "model": record.model,
        "key": record.key,
        "problem": record.problem,
        "image_problems": dict(Counter(record.image_problems)),
        "trace_id": record.trace_id,
    }
    fields = {name: value for name, value in fields.items() if value not in (None, {})}
    if audit and record.verdicts:
        fields["verdicts"] = [verdict._asdict() for verdict in record.verdicts]
    logger.info(
        "%s %s %s %d %.1f ms",
        record.request_id,
        record.method,
        record.route,
        record.status,
        record.duration * 1000,
        extra={"event": "request", "fields": fields},
    )


def _lost_lines(count: int) -> logging.LogRecord:
    event = {"event": "lines_lost", "fields": {"lines": count}}
    text = "%d lines of this log could not be written"
    return logger.makeRecord(logger.name, logging.WARNING, "", 0, text, (count,), None, extra=event)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    # Not its text: a library that warns of a file quotes what it read there.
    logger.warning("%s from %s:%d", category.__name__, filename, lineno)


def _log_uncaught(type_: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logger.critical("Not caught: %s", type_.__name__, exc_info=(type_, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    _log_uncaught(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)


def _time(record: logging.LogRecord) -> str:
    """ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
