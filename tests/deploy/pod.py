"""Runs a command as a container of a pod: ``unshare --map-root-user --net --mount python pod.py``.

The plan comes as JSON on standard input: ``command``, ``environment``, ``folder`` to run in, ``mounts``
(``path``; ``source``, null for an empty folder in memory; ``read_only``) and ``probes`` (``[port, path]``).
The answer is JSON on standard output: ``statuses`` of the probes, ``writable`` for the path of each mount,
``output`` of the command, and its ``exit`` status after SIGTERM. The network and the mounts end with this
process.
"""

import fcntl
import http.client
import json
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_PATIENCE = 60


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def raise_loopback() -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def make_mounts(mounts: list[dict[str, Any]]) -> None:
    """Make the mounts below ``/mnt``, which is replaced, and those whose folder exists.

    Empty folders come last: one may hide the source of another mount.
    """
    mount("-t", "tmpfs", "tmpfs", "/mnt")
    for each in sorted(mounts, key=lambda each: each["source"] is None):
        path = Path(each["path"])
        if path.is_relative_to("/mnt"):
            path.mkdir(parents=True)
        if each["source"] is None:
            mount("-t", "tmpfs", "tmpfs", str(path))
        else:
            mount("--bind", each["source"], str(path))
        if each["read_only"]:
            mount("-o", "remount,bind,ro", str(path))


def status(port: int, path: str) -> int:
    """Return the status of ``GET path``, or 0 without a response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def writable(path: str) -> bool:
    try:
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False


def run(plan: dict[str, Any]) -> dict[str, Any]:
    raise_loopback()
    with tempfile.TemporaryFile() as log:  # before /tmp is replaced
        make_mounts(plan["mounts"])
        service = subprocess.Popen(
            plan["command"],
            cwd=plan["folder"],
            env=plan["environment"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            statuses = probe(service, plan["probes"])
            found = {each["path"]: writable(each["path"]) for each in plan["mounts"]}
            service.terminate()
            code = service.wait(_PATIENCE)
        finally:
            service.kill()
        log.seek(0)
        return {"statuses": statuses, "writable": found, "exit": code, "output": log.read().decode()}


def probe(service: subprocess.Popen[bytes], probes: list[tuple[int, str]]) -> list[int]:
    """Return the statuses of the probes when all are 200, the service has ended, or the time is over."""
    until = time.monotonic() + _PATIENCE
    statuses: list[int] = []
    while service.poll() is None and time.monotonic() < until and set(statuses) != {200}:
        statuses = [status(port, path) for port, path in probes]
        time.sleep(0.05)
    return statuses


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)), sys.stdout)
