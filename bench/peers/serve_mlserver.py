"""MLServer: a custom runtime with adaptive batching, or with ``parallel_workers``.

Not with both: batches are made in the server's own process, and with workers a custom handler, the only
way to take multipart, runs in them. There each image is a batch of its own.
"""

import asyncio
from typing import Annotated

import numpy as np
from fastapi import File
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.context import model_context
from mlserver.handlers import custom_handler
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput

from bench.peers.common import Answer, Classifier, Options, answers, decode


class Lesions(MLModel):
    """The runtime."""

    async def load(self) -> bool:
        """Load the model, once in each worker."""
        self._classify = Classifier(Options.from_environment())
        return True

    @custom_handler(rest_path="/predict")
    async def answer(self, file: Annotated[bytes, File()]) -> Answer:
        """Answer a request; ``predict`` is the batched one where MLServer batches."""
        image = RequestInput(name="file", shape=[1], datatype="BYTES", data=[file])
        with model_context(self.settings):
            response = await self.predict(InferenceRequest(inputs=[image]))
        return answers(NumpyCodec.decode_output(response.outputs[0]))[0]

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Probabilities ``[N, 7]`` of a batch of N files."""
        probabilities = await asyncio.to_thread(self._run, list(payload.inputs[0].data))
        output = NumpyCodec.encode_output("probabilities", probabilities)
        return InferenceResponse(model_name=self.name, outputs=[output])

    def _run(self, files: list[bytes]) -> np.ndarray:
        return self._classify.probabilities([decode(file) for file in files])


async def main() -> None:
    """Serve until SIGTERM."""
    options = Options.from_arguments()
    options.to_environment()
    settings = Settings(
        host="127.0.0.1",
        http_port=options.port,
        grpc_port=0,  # any
        metrics_endpoint=None,
        debug=False,
        parallel_workers=options.workers if options.workers > 1 else 0,
    )
    model = ModelSettings(
        name="lesions",
        implementation="bench.peers.serve_mlserver.Lesions",
        max_batch_size=options.max_batch_size,
        max_batch_time=options.batch_timeout,
    )
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(main())
