"""LitServe: a LitAPI with batching in each of ``workers_per_device`` worker processes."""

import litserve
import numpy as np
from starlette.requests import Request

from bench.peers.common import Answer, Classifier, Options, decode


class Lesions(litserve.LitAPI):
    """Decodes and classifies in the worker, as LitServe's guide to its speed does."""

    def __init__(self, options: Options) -> None:
        super().__init__(max_batch_size=options.max_batch_size, batch_timeout=options.batch_timeout)
        self._options = options

    def setup(self, device: str) -> None:
        """Load the model, once in each worker."""
        self._classify = Classifier(self._options)

    def decode_request(self, request: Request) -> np.ndarray:
        """The image of a request, uint8 ``[224, 224, 3]``."""
        # Of a multipart request LitServe gives the form; it wants this annotation all the same.
        return decode(request["file"].file.read())

    def batch(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """The images as they are: the classifier makes a batch of them."""
        return inputs

    def predict(self, inputs: list[np.ndarray] | np.ndarray) -> list[Answer] | Answer:
        """The answers of a batch; with a batch size of 1, LitServe gives and wants no list."""
        if isinstance(inputs, np.ndarray):
            return self._classify([inputs])[0]
        return self._classify(inputs)


if __name__ == "__main__":
    options = Options.from_arguments()
    server = litserve.LitServer(Lesions(options), accelerator="cpu", workers_per_device=options.workers)
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False, log_level="warning")
