"""FastAPI and Keras as in most tutorials: ``model.predict`` in a plain ``def`` endpoint."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow
import uvicorn
from fastapi import FastAPI, UploadFile

from bench.peers import Options
from bench.peers.common import CODES, Answer, answer
from models.preprocess import decode
from training.catalogue import load_recipe
from training.network.build import build_network


def build_model() -> Any:
    """The recipe's networks with random weights, which cost the same as trained ones.

    The model reads float32 ``[N, 224, 224, 3]`` in [0, 255] and returns probabilities ``[N, 7]``.
    """
    recipe = load_recipe("ham10000_ensemble")
    image = keras.Input((*recipe.size, recipe.channels), name="image")
    shares = []
    for member in recipe.members:
        network = build_network(
            replace(member, starting_weights="none"),
            len(CODES),
            size=recipe.member_size(member),
            resize=member.image_size is not None,
        )
        shares.append(member.weight * keras.layers.Softmax()(network(image)))
    return keras.Model(image, keras.layers.Add()(shares))


def create_app() -> FastAPI:
    """The application of one worker, with the model loaded."""
    options = Options.read()
    tensorflow.config.threading.set_intra_op_parallelism_threads(options.threads)
    model = build_model()
    # Compiles it, or each of the first concurrent requests would.
    model.predict(np.zeros((1, *model.input_shape[1:]), np.float32), verbose=0)
    app = FastAPI()

    @app.get("/health")
    def health() -> str:
        return "ready"

    @app.post("/predict")
    def predict(file: UploadFile) -> Answer:
        image = decode(file.file.read()).pixels.astype(np.float32)
        return answer(model.predict(image[np.newaxis], verbose=0))

    return app


if __name__ == "__main__":
    options = Options.read()
    uvicorn.run(
        f"{__spec__.name}:create_app",
        factory=True,
        host="127.0.0.1",
        port=options.port,
        workers=options.workers,
        access_log=False,
    )
