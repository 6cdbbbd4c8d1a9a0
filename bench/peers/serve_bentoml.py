"""BentoML: a service with ``workers`` threads, started by ``bentoml serve``."""

import os
import sys
from pathlib import Path

import bentoml

from bench.peers import Options
from bench.peers.common import Answer, Classifier

if __name__ == "__main__":
    where = ["--host", "127.0.0.1", "--port", str(Options.read().port)]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", f"{__spec__.name}:Lesions", *where])

OPTIONS = Options.read()


# Threads of one process, not processes: those accept connections from one socket, and the one that wakes
# first takes nearly all.
@bentoml.service(workers=1, threads=OPTIONS.workers, logging={"access": {"enabled": False}})
class Lesions:
    """Decodes and classifies in the worker's threads, which share one copy of the model."""

    def __init__(self) -> None:
        self._classify = Classifier(OPTIONS)

    @bentoml.api
    def predict(self, file: Path) -> Answer:
        """The answer for one file."""
        return self._classify(file.read_bytes())
