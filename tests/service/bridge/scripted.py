"""An HTTP server with scripted answers, in place of an Orthanc or a service."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Said(NamedTuple):
    """An answer; ``body`` is sent as JSON unless it is text."""

    status: int = 200
    body: Any = ""
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Scripted:
    """The answers by method and path, such as ``GET /changes``, and the requests so far.

    An answer may be a list: each is given once, and the last one for ever.
    """

    def __init__(self, url: str, answers: dict[str, Said | list[Said]]) -> None:
        self.url = url
        self.answers = answers
        self.asked: list[Asked] = []

    def take(self, asked: Asked) -> Said:
        self.asked.append(asked)
        found = self.answers.get(f"{asked.method} {asked.path}", Said(404))
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found


@contextmanager
def scripted(answers: dict[str, Said | list[Said]]) -> Iterator[Scripted]:
    """Serve ``answers`` on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            asked = Asked(self.command, self.path, dict(self.headers), self.rfile.read(length))
            said = script.take(asked)
            text = said.body if isinstance(said.body, str) else json.dumps(said.body)
            self.send_response(said.status)
            for name, value in ({"Content-Length": str(len(text))} | said.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = answer  # noqa: N815 - named by http.server

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script = Scripted(f"http://127.0.0.1:{server.server_address[1]}", answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
