"""Ray Serve: a deployment with ``num_replicas``."""

import asyncio

import ray
from ray import serve
from starlette.datastructures import UploadFile
from starlette.requests import Request

from bench.peers import Options
from bench.peers.common import Answer, Classifier

_OBJECT_STORE = 100_000_000
"""Bytes of shared memory, of which HTTP requests need almost none; Ray's default is 30 % of all memory."""


class Lesions:
    """Decodes and classifies in the replica."""

    def __init__(self, options: Options) -> None:
        self._classify = Classifier(options)

    async def __call__(self, request: Request) -> Answer:
        """The answer for one file."""
        async with request.form() as form:
            upload = form["file"]
            assert isinstance(upload, UploadFile)
            return await asyncio.to_thread(self._classify, await upload.read())


def main() -> None:
    """Serve until SIGTERM."""
    options = Options.read()
    # Not a cluster that runs or ran on this machine.
    ray.init(address="local", include_dashboard=False, object_store_memory=_OBJECT_STORE)
    serve.start(http_options={"host": "127.0.0.1", "port": options.port})
    lesions = serve.deployment(
        Lesions, num_replicas=options.workers, logging_config={"enable_access_log": False}
    )
    serve.run(lesions.bind(options), route_prefix="/predict", blocking=True)


if __name__ == "__main__":
    main()
