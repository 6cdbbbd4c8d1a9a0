"""The processes that decode images, with limits, and without access to keys, model and connections.

``python -m service.decoding.worker`` is the fork server. It is started once, imports the decoder, and forks
the decoding processes on request. A fork takes milliseconds and shares the memory of the imports. The fork
server has one thread, so that forking is safe. ``service.decoding.fork_server`` is the other side.

A decoding process reads an order with an image file and writes a reply, until its socket is closed. The file
may be hostile. Therefore:

- ``RLIMIT_DATA`` limits its memory. ``RLIMIT_AS`` would also count libraries and reserved memory.
- ``ITIMER_PROF`` limits the processor time of an image. When it expires, the kernel kills the process, even
  inside a codec. A limit of wall-clock time would reject good images on a busy machine.
- It replies with JSON and pixels, never with a pickle. An attacker who controls a codec must not reach the
  service.
- It prints nothing, because warnings of Pillow and the codecs quote the file.
- It writes no core dump and no file, because they would contain a patient's image.
"""

import ctypes
import gc
import json
import logging
import os
import resource
import signal
import socket
import struct
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from importlib import import_module
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, _imaging

from models.errors import ImageError
from models.preprocess import decode
from models.quality import measure_quality
from service.system.memory import return_large_blocks

ORDER = struct.Struct("!IQdQ")
"""Header of an order: sizes of the JSON and of the file that follow, then the limits in seconds and bytes.

The JSON holds the arguments of ``models.preprocess.decode``.
"""

REPLY = struct.Struct("!II")
"""Header of a reply: sizes of the JSON and of the pixels that follow.

The JSON is one of these, and also has ``"spent"``, the processor time in seconds:

- ``{"image": ..., "quality": ...}``: the fields of ``Decoded`` except the pixels, and of ``Quality``
- ``{"refused": ..., "detail": ...}``: the name and the text of an ``ImageError``
- ``{"short_of_memory": true}``
- ``{"failed": ...}``: any other exception
"""

LONGEST = 4096
"""Largest size of the JSON in a reply, in bytes."""

NUMBER = struct.Struct("!i")
"""A message to or from the fork server: a process number, or a status.

A message with a socket asks it to fork a process that serves the socket; the reply is the number of the
process, or -1. A message without a socket asks it to end the process; the reply is the exit status, negative
for a signal.
"""

READY = 0
"""First message of the fork server."""

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def main() -> None:
    """Run the fork server until the service is gone. The first argument is the descriptor of its socket."""
    # Only the service ends this process. A signal to the container must not, because the service may be
    # draining.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    _prepare_codecs()
    return_large_blocks()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    gc.freeze()  # keeps the garbage collector from writing to pages that the forks share
    forked: set[int] = set()
    with suppress(ConnectionError):  # the service is gone
        control.send(NUMBER.pack(READY))
        while message := _receive(control):
            number, descriptors = message
            if descriptors:
                forked.add(answer := _fork(control, descriptors[0]))
            else:
                answer = _end(number)
                forked.discard(number)
            control.send(NUMBER.pack(answer))
    for number in forked - {-1}:  # nobody waits for their results
        _end(number)


def _prepare_codecs() -> None:
    """Load all codecs before the first image, and silence them.

    Warnings and log lines quote the file, and Python keeps the text of each warning. libtiff writes to
    standard error itself.
    """
    for extra in ("models.dicom", "models.heif"):
        with suppress(ModuleNotFoundError):  # the extra is not installed
            import_module(extra)
    Image.init()
    warnings.simplefilter("ignore")
    # An exception, so that the image is rejected for its size.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    logging.disable()
    libtiff = ctypes.CDLL(_imaging.__file__)  # also finds the symbols of the linked libraries
    if hasattr(libtiff, "TIFFSetErrorHandler"):  # Pillow may be built without libtiff
        libtiff.TIFFSetErrorHandler(None)


def _receive(control: socket.socket) -> tuple[int, list[int]] | None:
    data, descriptors, _, _ = socket.recv_fds(control, NUMBER.size, 1)
    return (NUMBER.unpack(data)[0], descriptors) if data else None


def _fork(control: socket.socket, descriptor: int) -> int:
    try:
        number = os.fork()
    except OSError:  # no memory or no process numbers
        number = -1
    if number == 0:
        try:
            control.close()
            _serve(socket.socket(fileno=descriptor))
        finally:
            os._exit(0)
    os.close(descriptor)
    return number


def _end(number: int) -> int:
    """Kill a process, unless it has ended, and return its exit status.

    The system does not reuse its number before ``waitpid``.
    """
    os.kill(number, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def _serve(connection: socket.socket) -> None:
    """Decode images until the socket is closed."""
    _confine()
    base = _data_bytes()
    reader = connection.makefile("rb")
    while order := reader.read(ORDER.size):
        json_bytes, file_bytes, seconds, memory = ORDER.unpack(order)
        wanted = json.loads(reader.read(json_bytes))
        head, pixels = _answer(reader, file_bytes, wanted, seconds, base and base + file_bytes + memory)
        connection.sendall(REPLY.pack(len(head), pixels.nbytes) + head)
        connection.sendall(pixels)


def _answer(
    reader: BufferedReader, file_bytes: int, wanted: dict[str, Any], seconds: float, memory: int | None
) -> tuple[bytes, memoryview]:
    """Read and decode one image. Return the JSON and the pixels of the reply."""
    pixels = np.empty(0, np.uint8)
    data = reader.read(file_bytes)
    start = time.process_time()
    try:
        with _bounded(seconds, memory):
            image = decode(data, **wanted)
            quality = measure_quality(image.pixels)
        facts = {field.name: getattr(image, field.name) for field in fields(image) if field.name != "pixels"}
        found: dict[str, Any] = {"image": facts, "quality": quality._asdict()}
        pixels = np.ascontiguousarray(image.pixels)
    except MemoryError:
        found = {"short_of_memory": True}
    except ImageError as error:
        found = {"refused": type(error).__name__, "detail": str(error)[:1000]}
    except Exception as error:
        # The text of the exception may quote the file, so the reply only says where it was raised.
        found = {"failed": _where(error)}
    found["spent"] = time.process_time() - start
    return json.dumps(found).encode(), pixels.reshape(-1).data


@contextmanager
def _bounded(seconds: float, memory: int | None) -> Iterator[None]:
    """Limit processor time and memory. The first limit ends the process; the second raises MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if memory is not None:
        lower = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (lower, hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)  # without a handler, SIGPROF ends the process
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _confine() -> None:
    """Set the limits that hold for the life of this process."""
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    with suppress(OSError):  # not Linux. When memory is short, the kernel kills this process first.
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(OSError):
        Path("/proc/self/comm").write_text("decoder")
    with suppress(AttributeError, OSError, TypeError):  # not Linux. This process ends with the fork server.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _data_bytes() -> int | None:
    """Return the bytes of this process that RLIMIT_DATA counts. None if the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    except OSError:  # not Linux; macOS does not enforce such a limit
        return None


def _where(error: Exception) -> str:
    """Return the type of ``error``, and the file and line that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
    return f"{type(error).__name__} at {place}"


if __name__ == "__main__":
    main()
