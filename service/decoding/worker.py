"""The processes that decode images: apart from keys, model and connections, and bounded.

``python -m service.decoding.worker`` is started once. It imports the decoder, and then forks a process
for each image to be decoded at one time; such a process is there in milliseconds, and shares the
imports' memory. It has one thread, so that forking is safe. ``service.decoding.decoder`` is its other side.

A process that decodes reads an order, the image file, and writes what it found, until its socket is
closed. What it parses is hostile until decoded. Therefore:

- ``RLIMIT_DATA`` bounds its memory. (Not ``RLIMIT_AS``, which counts libraries and what is reserved only.)
- ``ITIMER_PROF`` bounds the processor time of an image: at its end the kernel kills the process, also
  within a codec. Wall-clock time would refuse good images on a busy machine.
- It answers with JSON and pixels, never with a pickle: a codec that an attacker has taken over must not
  reach the service.
- It is silent: what Pillow and the codecs warn of quotes the file.
- It leaves no core dump and writes no file: both would hold a patient's image.
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
"""Before an image: bytes of the JSON and of the file that follow; seconds and bytes that decoding may take.

The JSON holds the arguments of ``models.preprocess.decode``.
"""

REPLY = struct.Struct("!II")
"""Before an answer: bytes of the JSON and of the pixels that follow.

The JSON is one of ``{"image": ..., "quality": ...}``, the fields of ``Decoded`` but for the pixels and
those of ``Quality``; ``{"refused": ..., "detail": ...}``, an ``ImageError``; ``{"short_of_memory": true}``;
``{"failed": ...}``, any other exception. Each has ``"spent"``, the seconds of processor time.
"""

LONGEST = 4096
"""Most bytes of JSON in an answer."""

NUMBER = struct.Struct("!i")
"""What the process that forks reads and writes. Read with a socket: fork a process that serves it, and
write its number, or -1. Read without: end that process, and write its exit status, negative for a signal.
"""

READY = 0
"""What it writes first."""

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def main() -> None:
    """Fork on request until the service is gone. The first argument is a socket's descriptor."""
    # The service ends us. A signal to its process group or container must not: it may be draining.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    _prepare_codecs()
    return_large_blocks()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    gc.freeze()  # no collection writes into pages that are shared with the forks
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
    for number in forked - {-1}:  # what they work on, nobody waits for
        _end(number)


def _prepare_codecs() -> None:
    """Load all codecs, not on a client's time, and write nothing that a client's file makes them say.

    Warnings and log lines quote the file, and Python keeps the text of each warning. libtiff writes to
    standard error itself.
    """
    with suppress(ModuleNotFoundError):  # the extra "dicom" is not installed
        import_module("models.dicom")
    Image.init()
    warnings.simplefilter("ignore")
    # Raised, not shown: the image is refused for its size.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    logging.disable()
    libtiff = ctypes.CDLL(_imaging.__file__)  # a library's symbols include those of what it is linked to
    if hasattr(libtiff, "TIFFSetErrorHandler"):  # not where Pillow was built without it
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
    """Kill a process unless it has ended; its number is its own until then, as nobody else waits for it."""
    os.kill(number, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def _serve(connection: socket.socket) -> None:
    """Decode what comes until the socket is closed."""
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
    """Read and decode one image; the JSON and the pixels of the answer."""
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
        # The text may quote the file: only where it was raised.
        found = {"failed": _where(error)}
    found["spent"] = time.process_time() - start
    return json.dumps(found).encode(), pixels.reshape(-1).data


@contextmanager
def _bounded(seconds: float, memory: int | None) -> Iterator[None]:
    """Bound the processor time, whose end is this process's end, and the memory, with MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if memory is not None:
        lower = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (lower, hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF has no handler: it ends the process
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _confine() -> None:
    """What holds for as long as this process lives."""
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    with suppress(OSError):  # not Linux. The first to be killed where memory is short.
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(OSError):
        Path("/proc/self/comm").write_text("decoder")
    with suppress(AttributeError, OSError, TypeError):  # not Linux. An image in work ends with the service.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _data_bytes() -> int | None:
    """What RLIMIT_DATA counts of this process; None where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    except OSError:  # not Linux; macOS has no limit that would hold
        return None


def _where(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
    return f"{type(error).__name__} at {place}"


if __name__ == "__main__":
    main()
