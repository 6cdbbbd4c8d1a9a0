"""BentoML: a service with ``workers`` threads and adaptive batching, started by ``bentoml serve``."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import bentoml
from pydantic import BeforeValidator

from bench.peers.common import Answer, Classifier, Options, decode

if __name__ == "__main__":
    options = Options.from_arguments()
    options.to_environment()
    where = ["--host", "127.0.0.1", "--port", str(options.port)]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", f"{__spec__.name}:Lesions", *where])

OPTIONS = Options.from_environment()

Alone = Annotated[Any, BeforeValidator(lambda found: found[0])]
"""The one answer in the list that BentoML gives each client for the files of its request."""


# Threads of one process, not processes: those take their connections from one socket, and whoever wakes
# first takes nearly all.
@bentoml.service(workers=1, threads=OPTIONS.workers, logging={"access": {"enabled": False}})
class Lesions:
    """Decodes and classifies in the worker's threads, which share one copy of the model."""

    def __init__(self) -> None:
        self._classify = Classifier(OPTIONS)

    if OPTIONS.max_batch_size > 1:
        # How long to wait for more, BentoML finds out itself.
        @bentoml.api(batchable=True, max_batch_size=OPTIONS.max_batch_size)
        def predict(self, file: list[Path]) -> Alone:
            """The answers for the files of a batch."""
            return self._classify([decode(path.read_bytes()) for path in file])

    else:  # its smallest cap is 2

        @bentoml.api
        def predict(self, file: Path) -> Answer:
            """The answer for one file."""
            return self._classify([decode(file.read_bytes())])[0]
