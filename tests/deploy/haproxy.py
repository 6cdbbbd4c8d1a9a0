"""Runs HAProxy with deploy/haproxy/haproxy.cfg, and several services behind it, found by DNS as in Docker."""

import csv
import itertools
import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.deploy.monitoring import ROOT
from tests.docs.pages import block
from tests.service.app_client import wait_for
from tests.service.process import Process, free_port

CONFIGURATION = ROOT / "deploy" / "haproxy" / "haproxy.cfg"


class NameServer:
    """Answers each DNS query for an address with all of ``addresses``, as Docker's does for a service.

    Attributes:
        addresses: IPv4; may change at any time.
        port: UDP, on loopback.
    """

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(1024)
            if not query:
                return
            self._socket.sendto(self._answer(query), sender)

    def _answer(self, query: bytes) -> bytes:
        """RFC 1035: the question again, and an A record with a time to live of 0 for each address."""
        name_end = query.index(b"\0", 12) + 1
        (kind,) = struct.unpack("!H", query[name_end : name_end + 2])
        found = self.addresses if kind == 1 else []
        head = query[:2] + struct.pack("!5H", 0x8580, 1, len(found), 0, 0)
        pointer_to_name = b"\xc0\x0c"
        records = [
            pointer_to_name + struct.pack("!HHIH", 1, 1, 0, 4) + socket.inet_aton(address)
            for address in found
        ]
        return head + query[12 : name_end + 4] + b"".join(records)


def make_certificate(folder: Path, *, renew: bool = False) -> Path:
    """Make an authority and a certificate as docs/scale.md does. Return the folder with both, ``tls``.

    Args:
        folder: gets the folder.
        renew: only make another certificate, of the same authority.
    """
    commands = block("docs/scale.md", "A certificate", "sh")
    if renew:
        _, first, rest = commands.partition("openssl req -newkey")
        commands = f"cd tls\n{first}{rest}"
    subprocess.run(["sh", "-ec", commands], cwd=folder, check=True, capture_output=True)
    return folder / "tls"


class Proxy:
    """HAProxy with the shipped configuration; use as a context manager.

    Args:
        folder: gets ``haproxy.log``.
        tls: folder with ``dermaserve.pem``.
        replicas_port: of the services behind it, at the addresses that ``names`` answers.

    Attributes:
        url: of the public port.
    """

    def __init__(self, folder: Path, tls: Path, names: NameServer, replicas_port: int) -> None:
        self.port, self._status_port = free_port(), free_port()
        self.url = f"https://localhost:{self.port}"
        self._log = folder / "haproxy.log"
        with self._log.open("w") as log:
            # As in the container: a master process, which reloads on SIGUSR2 and SIGHUP.
            self.process = subprocess.Popen(
                ["haproxy", "-W", "-db", "-f", CONFIGURATION],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ
                | {
                    "PROXY_BIND": f"127.0.0.1:{self.port}",
                    "PROXY_STATUS_BIND": f"127.0.0.1:{self._status_port}",
                    "PROXY_CERTIFICATE": str(tls / "dermaserve.pem"),
                    "PROXY_DNS": f"127.0.0.1:{names.port}",
                    "PROXY_REPLICAS": f"service:{replicas_port}",
                },
            )

    def __enter__(self) -> Self:
        """Wait until it listens."""
        wait_for(lambda: self._listens() or self.process.poll() is not None, 600)
        assert self.process.poll() is None, self.log()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End it at once."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(20)

    def _listens(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self._status_port}/livez").status_code == 200
        except httpx.TransportError:
            return False

    def ready(self) -> set[str]:
        """Return the addresses of the replicas whose latest check succeeded."""
        return {
            row["addr"].partition(":")[0]
            for row in self._statistics()
            if row["svname"].startswith("replica") and row["check_status"] == "L7OK"
        }

    def denied_connections(self) -> int:
        """Return how many connections to the public port were closed at once."""
        (found,) = (row for row in self._statistics() if row["pxname"] == "https")
        return int(found["dcon"])

    def _statistics(self) -> list[dict[str, str]]:
        text = httpx.get(f"http://127.0.0.1:{self._status_port}/;csv", timeout=60).text.removeprefix("# ")
        return list(csv.DictReader(text.splitlines()))

    def wait_ready(self, *addresses: str) -> None:
        """Wait until exactly these replicas are ready."""
        wait_for(lambda: self.ready() == set(addresses), 600)

    def log(self) -> str:
        return self._log.read_text()


class Replicas:
    """Services with addresses of their own on loopback, as containers have; use as a context manager.

    Attributes:
        names: answers with the addresses of those that run.
        port: the same for all.
        running: by address.
    """

    def __init__(self, folder: Path, bundle: Path, **settings: Any) -> None:
        self.names, self.port = NameServer(), free_port()
        self.running: dict[str, Process] = {}
        self._folder, self._bundle, self._settings = folder, bundle, settings
        self._addresses = (f"127.84.0.{number}" for number in itertools.count(1))

    def __enter__(self) -> Self:
        """Start none."""
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Kill all."""
        with ExitStack() as ends:
            ends.callback(self.names.close)
            for process in self.running.values():
                ends.callback(process.end)

    def start(self, count: int = 1) -> Sequence[str]:
        """Start further ones; return their addresses. They are found at once, before they are ready."""
        found = list(itertools.islice(self._addresses, count))
        for address in found:
            folder = self._folder / address
            folder.mkdir()
            self.running[address] = Process(
                folder, self._bundle, host=address, port=self.port, **self._settings
            )
            self.names.addresses.append(address)
        return found

    def end(self, address: str, number: int) -> int:
        """Send a signal, wait until the process has ended, and drop its address. Return its status."""
        process = self.running[address]
        process.process.send_signal(number)
        status = process.process.wait()
        self.names.addresses.remove(address)
        del self.running[address]
        process.end()
        return status


class Echo:
    """A server that is ready and answers with the headers of the request; use as a context manager."""

    def __init__(self, address: str, port: int) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                """End as a replica that is killed while it works on a request."""
                self.rfile.read(int(self.headers["Content-Length"]))
                self.close_connection = True

            def do_PUT(self) -> None:
                """Give no answer. The proxy closes the connection in the end."""
                self.rfile.read()

        self._server = ThreadingHTTPServer((address, port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
