"""Other servers that a user could choose, each written as its documentation recommends.

One file per server, run in an environment of its own (``.venv-bench-<name>``, made from
``requirements/<name>.txt``). Each answers ``POST /predict`` with the multipart part ``file`` by
``{"probabilities": {code: p, ...}}``. None forms batches, like this service on a CPU, where batches gain
nothing. This file imports nothing but the standard library.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

ROOT = Path(__file__).parents[2]
"""Of the repository: the working directory and the ``PYTHONPATH`` of every server."""

_VARIABLE = "DERMASERVE_BENCH_PEER"


class Options(NamedTuple):
    """How to run a peer; the processes that a server starts inherit it in their environment."""

    model: str
    port: int
    workers: int
    threads: int  # of each worker, for one inference

    @classmethod
    def read(cls) -> Self:
        """The options of this process."""
        return cls(*json.loads(os.environ[_VARIABLE]))


@dataclass(frozen=True)
class Peer:
    """A server to compare with.

    Attributes:
        name: of its file, its lock and, in ``.venv-bench-<name>``, its environment.
        title: as its makers write it.
        ready_path: answers 200 to ``GET`` once it can predict.
        environment: variables to run it with: no telemetry, and settings that make it faster.
        onnx: whether it runs the ONNX file; otherwise its answers differ.
        shape: number of cores to its number of inferences at a time and the threads of each, by which it had
            its highest throughput: found by hand, on two cores with 16 clients.
    """

    name: str
    title: str
    ready_path: str
    environment: Mapping[str, str] = field(default_factory=dict)
    onnx: bool = True
    shape: Callable[[int], tuple[int, int]] = lambda cores: (cores, 1)

    @property
    def python(self) -> Path:
        """The interpreter of its environment, made by ``make .venv-bench-<name>/.installed``."""
        return ROOT / f".venv-bench-{self.name}" / "bin" / "python"

    @property
    def module(self) -> str:
        """Its program. The name differs from its package's: some servers put the folder on ``sys.path``."""
        return f"bench.peers.serve_{self.name.replace('-', '_')}"

    def variables(self, *, model: Path, port: int, cores: int) -> dict[str, str]:
        """The environment variables to run ``module`` with, in ``ROOT``.

        Args:
            model: the ONNX file; see ``onnx``.
            port: TCP port to listen on, on 127.0.0.1.
            cores: number of cores to use.
        """
        options = Options(str(model), port, *self.shape(cores))
        return {**self.environment, _VARIABLE: json.dumps(options)}


PEERS = (
    Peer("litserve", "LitServe", "/health"),
    Peer(
        "bentoml",
        "BentoML",
        "/readyz",
        environment={"BENTOML_DO_NOT_TRACK": "True"},
        shape=lambda cores: (cores + 1, 1),
    ),
    Peer(
        "ray",
        "Ray Serve",
        "/-/healthz",
        environment={
            "RAY_USAGE_STATS_ENABLED": "0",
            # Its documentation calls both the way to high throughput.
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            # Replicas that compute on all cores answer the router late; its default is 0.1 s.
            "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "1",
        },
    ),
    Peer("mlserver", "MLServer", "/v2/health/ready"),
    Peer("fastapi-keras", "FastAPI + Keras", "/health", onnx=False, shape=lambda cores: (1, cores)),
)
