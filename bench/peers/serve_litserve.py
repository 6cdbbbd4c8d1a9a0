"""LitServe: a LitAPI in each of ``workers_per_device`` worker processes."""

import litserve
from starlette.requests import Request

from bench.peers import Options
from bench.peers.common import Answer, Classifier


class Lesions(litserve.LitAPI):
    """Decodes and classifies in the worker, as LitServe's guide to speed recommends."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self._options = options

    def setup(self, device: str) -> None:
        """Load the model, once in each worker."""
        self._classify = Classifier(self._options)

    def decode_request(self, request: Request) -> bytes:
        """The file of a request."""
        # LitServe passes the form of a multipart request, but requires this annotation.
        data: bytes = request["file"].file.read()
        return data

    def predict(self, data: bytes) -> Answer:
        """The answer for one file."""
        return self._classify(data)


if __name__ == "__main__":
    options = Options.read()
    server = litserve.LitServer(Lesions(options), accelerator="cpu", workers_per_device=options.workers)
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False, log_level="warning")
