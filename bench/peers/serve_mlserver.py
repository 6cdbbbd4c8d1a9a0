"""MLServer: a custom runtime with ``parallel_workers``."""

import asyncio
from typing import Annotated

from fastapi import File
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.handlers import custom_handler

from bench.peers import Options
from bench.peers.common import Answer, Classifier


class Lesions(MLModel):
    """The runtime."""

    async def load(self) -> bool:
        """Load the model, once in each worker."""
        self._classify = Classifier(Options.read())
        return True

    @custom_handler(rest_path="/predict")  # the only way to accept multipart
    async def answer(self, file: Annotated[bytes, File()]) -> Answer:
        """The answer for one file."""
        return await asyncio.to_thread(self._classify, file)


async def main() -> None:
    """Serve until SIGTERM."""
    options = Options.read()
    settings = Settings(
        host="127.0.0.1",
        http_port=options.port,
        grpc_port=0,  # any
        metrics_endpoint=None,
        debug=False,
        parallel_workers=options.workers if options.workers > 1 else 0,
    )
    model = ModelSettings(name="lesions", implementation="bench.peers.serve_mlserver.Lesions")
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(main())
