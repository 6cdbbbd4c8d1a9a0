"""The servers that a user would pick instead, each written as its documentation recommends.

One file per server, run in an environment of its own (``.venv-bench-<name>``, made from
``requirements/<name>.txt``): ``python -m bench.peers.serve_<name> --help``. All of them answer
``POST /predict`` with the multipart part ``file`` by ``{"probabilities": {code: p, ...}}`` and share
``common.py``, which holds what has to be equal; ``python -m bench.peers`` runs each for real. Sessions
with several threads spin while they wait, as is ONNX Runtime's default. This file needs nothing but the
standard library.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Of the repository: the working directory and the ``PYTHONPATH`` of every peer."""


@dataclass(frozen=True)
class Shape:
    """How a server spreads over the cores.

    Attributes:
        workers: inferences at a time, by the server's documented way of having several.
        threads: intra-op threads of each.
    """

    workers: int
    threads: int


def one_wide(cores: int) -> Shape:
    """One inference at a time with a thread for each of ``cores``."""
    return Shape(workers=1, threads=cores)


def one_per_core(cores: int) -> Shape:
    """An inference at a time for each of ``cores``, with one thread."""
    return Shape(workers=cores, threads=1)


def one_more(cores: int) -> Shape:
    """An inference at a time for each of ``cores`` and one more, as this service has them."""
    return Shape(workers=cores + 1, threads=1)


@dataclass(frozen=True)
class Peer:
    """A server to compare with.

    Attributes:
        name: of its file, its lock and, in ``.venv-bench-<name>``, its environment.
        title: as its makers write it.
        best: number of cores to the shape that gave it the most throughput.
        ready_path: answers 200 to ``GET`` once it can predict.
        environment: variables it is to run with, besides ``PYTHONPATH``: no telemetry, and what helps it.
        onnx: whether it runs the ONNX file it is given. The one that does not takes a ``.keras`` file,
            and for any other the recipe's networks with random weights: what they cost is the same.
    """

    name: str
    title: str
    best: Callable[[int], Shape]
    ready_path: str
    environment: Mapping[str, str] = field(default_factory=dict)
    onnx: bool = True

    @property
    def python(self) -> Path:
        """The interpreter of its environment, there once ``make .venv-bench-<name>/.installed`` ran."""
        return ROOT / f".venv-bench-{self.name}" / "bin" / "python"

    @property
    def module(self) -> str:
        """Its program. Not named as the package it uses: some servers put its folder on ``sys.path``."""
        return f"bench.peers.serve_{self.name.replace('-', '_')}"

    @property
    def lock(self) -> Path:
        """The hashed lock of its environment."""
        return ROOT / "bench" / "peers" / "requirements" / f"{self.name}.txt"

    def command(
        self,
        python: Path,
        *,
        model: Path,
        port: int,
        shape: Shape,
        max_batch_size: int,
        batch_timeout: float,
    ) -> list[str]:
        """What starts it on 127.0.0.1, in ``ROOT``; SIGTERM to its process group stops it.

        Args:
            python: interpreter of its environment.
            model: the ONNX file; see ``onnx``.
            port: TCP port to listen on.
            shape: inferences at a time and threads of each.
            max_batch_size: images in a batch at most.
            batch_timeout: seconds that the first image of a batch waits for more.
        """
        return [
            *(str(python), "-m", self.module),
            *("--model", str(model), "--port", str(port)),
            *("--workers", str(shape.workers), "--threads", str(shape.threads)),
            *("--max-batch-size", str(max_batch_size), "--batch-timeout", str(batch_timeout)),
        ]


# The shapes were chosen once, by hand, on two cores with 16 clients: `make bench` does not look for them. Of
# LitServe and MLServer three workers gave as much as two within 5 %.
PEERS = (
    Peer("litserve", "LitServe", one_per_core, "/health"),
    Peer("bentoml", "BentoML", one_more, "/readyz", environment={"BENTOML_DO_NOT_TRACK": "True"}),
    Peer(
        "ray",
        "Ray Serve",
        one_per_core,
        "/-/healthz",
        environment={
            "RAY_USAGE_STATS_ENABLED": "0",
            # Replicas that compute on all cores answer the router late; by default it gives them 0.1 s.
            "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "1",
        },
    ),
    Peer("mlserver", "MLServer", one_per_core, "/v2/health/ready"),
    Peer("fastapi-keras", "FastAPI + Keras", one_wide, "/health", onnx=False),
)
