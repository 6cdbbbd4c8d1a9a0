"""Bytes on a socket and back: a client that keeps no rule of HTTP unless it wants to."""

import contextlib
import http.client
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal

CLOSED, HUNG, LEFT = "closed", "hung", "left"

Outcome = int | str
"""A status, or that the server closed without one, gave nothing in time, or was left by the client."""

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s; closing then sends RST in place of FIN


@dataclass(frozen=True, slots=True)
class Sending:
    """What a client does with one connection.

    Attributes:
        pieces: sent one after the other, until the server answers.
        pause: seconds between them.
        then: read the answers; end the sending side, then read them; or leave without, politely or not.
        answers: how many to read; of a pipeline, several.
    """

    pieces: Sequence[bytes]
    pause: float = 0.0
    then: Literal["read", "end", "leave", "reset"] = "read"
    answers: int = 1


def exchange(address: tuple[str, int], sending: Sending, bound: float) -> list[Outcome]:
    """Do as ``sending`` says; the last outcome is a word where there were not as many answers.

    Args:
        address: of the server.
        sending: what to send, and how.
        bound: seconds without a byte after which it counts as hung.
    """
    with contextlib.closing(socket.create_connection(address, timeout=bound)) as connection:
        _send(connection, sending)
        if sending.then in ("leave", "reset"):
            if sending.then == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            return [LEFT]
        outcomes: list[Outcome] = []
        with connection.makefile("rb") as stream:
            while len(outcomes) < sending.answers:
                try:
                    outcomes.append(_status(stream))
                except TimeoutError:
                    return [*outcomes, HUNG]
                except (OSError, http.client.HTTPException, ValueError):
                    return [*outcomes, CLOSED]
        return outcomes


def _send(connection: socket.socket, sending: Sending) -> None:
    """Send until all is sent or the server answers or hangs up."""
    with contextlib.suppress(OSError):
        for index, piece in enumerate(sending.pieces):
            if sending.pause and index:
                time.sleep(sending.pause)
                if select.select([connection], [], [], 0)[0]:
                    return
            connection.sendall(piece)
        if sending.then == "end":
            connection.shutdown(socket.SHUT_WR)


def _status(stream: BinaryIO) -> int:
    """Read one whole answer, interim ones (1xx) aside; raises ValueError where there is none."""
    status = 100
    while status < 200:
        version, _, rest = stream.readline(65_536).partition(b" ")
        if not version.startswith(b"HTTP/1."):
            raise ValueError("no status line")
        status = int(rest[:3])
        headers = http.client.parse_headers(stream)
    size = headers.get("content-length")
    if size is not None:
        if len(stream.read(int(size))) != int(size):
            raise ValueError("the answer ends too early")
    elif headers.get("transfer-encoding") == "chunked":
        while chunk := int(stream.readline(100), 16):
            stream.read(chunk + 2)
        stream.readline(100)
    elif status not in (204, 304):
        stream.read()
    return status
