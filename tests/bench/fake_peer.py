"""A peer that answers every image alike."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bench.peers import Options
from models.labels import HAM10000_LABELS

ANSWER = json.dumps({"probabilities": {label.code: 1 / 7 for label in HAM10000_LABELS}}).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200 if self.path == "/health" else 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200 if b'name="file"' in body else 422)

    def log_message(self, format: str, *args: object) -> None: ...

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", Options.read().port), Handler).serve_forever()
