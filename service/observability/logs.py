"""Logs to standard error, one event per line: JSON for machines, or text for people.

Both formats escape what clients send, so that a client cannot forge a line or a field. A thread writes the
lines, up to 50 ms late. A killed process loses the last of them. If the reader stalls, the pipe is closed or
the disk is full, lines are lost, but requests are not affected. The log counts the lost lines once it can be
written again.
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

_ENCODER = json.JSONEncoder(default=str)  # json.dumps would create one for each line

logger = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of ASCII JSON: time, level, event, then the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return ``record`` as JSON. ``extra`` may set ``event`` and ``fields``."""
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
    """Formats a record as text. Only the first line of a record starts at the left margin."""

    def format(self, record: logging.LogRecord) -> str:
        """Return ``record`` as text with unprintable characters escaped."""
        text = f"{_time(record)} {record.levelname} {record.name}: {_printable(record.getMessage())}"
        if record.exc_info:
            lines = self.formatException(record.exc_info).splitlines()
            text += "".join(f"\n    {_printable(line)}" for line in lines)
        return text


class LineHandler(logging.Handler):
    """Writes lines to a stream in a thread. ``emit`` never blocks and never raises.

    The standard library's ``QueueHandler`` writes to standard error from the logging thread when its queue is
    full, and ``QueueListener.stop`` waits forever for a stalled reader.
    """

    def __init__(self, stream: io.RawIOBase, max_waiting: int = 10_000) -> None:
        """Start the thread.

        Args:
            stream: unbuffered, because a stalled buffer would block the exit of the process. Never closed.
            max_waiting: largest number of lines in memory, of about 500 bytes each. Further lines are lost.
        """
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | threading.Event] = queue.Queue(max_waiting)
        self._dropped = 0  # written by threads that log; logging holds a lock
        self._failed = 0  # written by the writer thread
        self._reported = 0
        self._torn = False  # the last write ended in the middle of a line
        self._hurry = threading.Event()
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or drop it if the queue is full. Lines from level WARNING on are written at once."""
        if record.levelno >= logging.WARNING:
            self._hurry.set()
        try:
            self._lines.put_nowait(self.format(record))
        except Exception:
            # The queue is full, or the arguments do not fit the message. Neither may fail a request.
            self._dropped += 1

    def flush(self) -> None:
        """Wait until earlier lines are written, for at most a few seconds."""
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
                # Wait for more lines: waking this thread costs a request more than everything else that
                # is done for its line.
                self._hurry.wait(_GATHER_SECONDS)
                self._hurry.clear()
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
            elif self._write(line) and (lost := self._dropped + self._failed - self._reported):
                self._reported += lost
                self._write(self.format(_lost_lines(lost)))  # the logger could wait for this thread

    def _write(self, line: str) -> bool:
        whole = left = b"\n" * self._torn + line.encode("utf-8", "backslashreplace") + b"\n"
        try:
            while left:
                count = self._stream.write(left)
                if count is None:  # a non-blocking stream that is full
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
    """Log to standard error, including Python warnings and uncaught exceptions.

    Args:
        format_: of the lines.
        level: lowest level of the service and uvicorn. Other libraries log from WARNING on, because Pillow's
            debug messages contain image metadata and so names of patients.
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
    """Log one line for a request. With ``audit`` it includes the prediction for each image."""
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
    if audit and record.predictions:
        fields["verdicts"] = [prediction._asdict() for prediction in record.predictions]
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
    # Without the message, which may quote the contents of a file.
    logger.warning("%s from %s:%d", category.__name__, filename, lineno)


def _log_uncaught(type_: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logger.critical("Uncaught exception: %s", type_.__name__, exc_info=(type_, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    _log_uncaught(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)


def _time(record: logging.LogRecord) -> str:
    """Return the time of ``record`` in ISO 8601, UTC, with milliseconds."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
