"""Ray Serve: a deployment with ``num_replicas``, batched by ``serve.batch``."""

import asyncio

import numpy as np
import ray
from ray import serve
from starlette.datastructures import UploadFile
from starlette.requests import Request

from bench.peers.common import Answer, Classifier, Options, decode

_OBJECT_STORE = 100_000_000
"""Bytes of shared memory, of which requests by HTTP need next to nothing; Ray's default is 30 % of all."""


class Lesions:
    """Decodes and classifies in the replica."""

    def __init__(self, options: Options) -> None:
        self._classifier = Classifier(options)
        self._alone = options.max_batch_size == 1  # then a queue for batches only costs
        self._classify.set_max_batch_size(options.max_batch_size)
        self._classify.set_batch_wait_timeout_s(options.batch_timeout)

    @serve.batch
    async def _classify(self, images: list[np.ndarray]) -> list[Answer]:
        return await asyncio.to_thread(self._classifier, images)

    async def __call__(self, request: Request) -> Answer:
        """Answer a request."""
        async with request.form() as form:
            upload = form["file"]
            assert isinstance(upload, UploadFile)
            image = await asyncio.to_thread(decode, await upload.read())
        if self._alone:
            return (await asyncio.to_thread(self._classifier, [image]))[0]
        answer: Answer = await self._classify(image)
        return answer


def main() -> None:
    """Serve until SIGTERM."""
    options = Options.from_arguments()
    ray.init(include_dashboard=False, object_store_memory=_OBJECT_STORE)
    serve.start(http_options={"host": "127.0.0.1", "port": options.port})
    lesions = serve.deployment(
        Lesions,
        num_replicas=options.workers,
        # Ray's default, or as many as it takes to fill a batch while another is computed.
        max_ongoing_requests=max(5, 2 * options.max_batch_size),
        logging_config={"enable_access_log": False},
    )
    serve.run(lesions.bind(options), route_prefix="/predict", blocking=True)


if __name__ == "__main__":
    main()
