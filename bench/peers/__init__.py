"""Other servers that a user could choose, each written as its documentation recommends.

One file per server, run in an environment of its own (``.venv-bench-<name>``, made from
``requirements/<name>.txt``): ``python -m bench.peers.serve_<name> --help``. Each answers ``POST /predict``
with the multipart part ``file`` by ``{"probabilities": {code: p, ...}}``. None forms batches, like this
service on a CPU, where batches gain nothing. This file imports nothing but the standard library.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Of the repository: the working directory and the ``PYTHONPATH`` of every peer."""


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

    @property
    def lock(self) -> Path:
        """The hashed lock of its environment."""
        return ROOT / "bench" / "peers" / "requirements" / f"{self.name}.txt"

    def command(self, *, model: Path, port: int, cores: int) -> list[str]:
        """The command that starts it on 127.0.0.1, to be run in ``ROOT``.

        Args:
            model: the ONNX file; see ``onnx``.
            port: TCP port to listen on.
            cores: number of cores to use.
        """
        workers, threads = self.shape(cores)
        return [
            *(str(self.python), "-m", self.module, "--model", str(model), "--port", str(port)),
            *("--workers", str(workers), "--threads", str(threads)),
        ]


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
            # Replicas that compute on all cores answer the router late; its default is 0.1 s.
            "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "1",
        },
    ),
    Peer("mlserver", "MLServer", "/v2/health/ready"),
    Peer("fastapi-keras", "FastAPI + Keras", "/health", onnx=False, shape=lambda cores: (1, cores)),
)
