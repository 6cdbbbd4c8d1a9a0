"""The service with its model on the device: load, and what its own metrics say of it."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
from prometheus_client.parser import text_string_to_metric_families

from bench.gpu.graph import in_half
from bench.gpu.session import Device
from bench.images import read_images
from bench.load import Load
from bench.servers import ROOT, Server, free_port
from models.bundle import MODEL_NAME, Bundle, save_bundle
from models.errors import DermaserveError
from models.preprocess import decode
from service.cpus import usable_cpus

CLIENTS = (1, 4, 16, 64, 256)

_PREFIX = "dermaserve_"
_PARTS = {
    "decode": "decode_duration_seconds",
    "queue": "queue_wait_seconds",
    "inference": "inference_duration_seconds",
}
_LOAD_TIMEOUT = 600.0


SHIPPED, HALF = "as shipped", "fp16"
"""The graphs that are served."""


class LoadError(DermaserveError):
    """The process that asks the service ended with an error."""


def half_bundle(bundle: Bundle, folder: Path) -> Path:
    """``folder``, with a copy of the bundle whose graph computes in float16."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bundle.path, folder)
    onnx.save(in_half(onnx.load(bundle.model_path)), folder / MODEL_NAME)
    save_bundle(folder, bundle.manifest)
    return folder


def serve(bundle: Path, device: Device, log: Path) -> Server:
    """The service as ``make serve`` starts it, that must find ``device``; a context manager."""
    port = free_port()
    settings = {
        **{"HOST": "127.0.0.1", "PORT": port, "LOG_FORMAT": "text", "DRAIN_PAUSE": 0},
        **{"BUNDLE": bundle, "DEVICE": device},
        # More than the clients: how fast it refuses is not the question.
        "MAX_QUEUE_SIZE": 2 * max(CLIENTS),
    }
    environment = {f"DERMASERVE_{name}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "service"]
    return Server(command, port=port, ready_path="/readyz", log=log, environment=environment)


def measure_service(
    server: Server, images: Path, *, clients: Sequence[int] = CLIENTS, seconds: float = 8.0
) -> Iterator[dict[str, Any]]:
    """Closed loops of each number of clients, then an open loop at half of the most that they got.

    Yields:
        What ``bench.load`` measured and what the service's metrics say of the same time, with ``clients``,
        or with ``rate`` in requests per second.
    """
    best = 0.0
    for count in clients:
        found = ask(server, images, clients=count, seconds=seconds)
        best = max(best, found["throughput"])
        yield {"clients": count} | found
    yield {"rate": best / 2} | ask(server, images, rate=best / 2, arrivals="poisson", seconds=seconds)


def ask(server: Server, images: Path, *, seconds: float, **kind: Any) -> dict[str, Any]:
    """Load the server once.

    Raises:
        LoadError: that failed, or an answer was wrong.
    """
    load = Load(port=server.port, images=str(images), seconds=seconds, warm_up=seconds / 4, **kind)
    before = read_metrics(server.port)
    command = [sys.executable, "-m", "bench.load", json.dumps(asdict(load))]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=_LOAD_TIMEOUT, check=False
    )
    after = read_metrics(server.port)
    if done.returncode:
        raise LoadError(f"bench.load ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    if found["failed"]:
        raise LoadError(f"{found['failed']} of {found['requests']} requests failed: {found['reasons']}")
    return found | inside(before, after, load.warm_up + load.seconds)


def read_metrics(port: int) -> dict[str, float]:
    """The service's own metrics, histograms as ``name_sum``, ``name_count`` and ``name_bucket le``."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    found: dict[str, float] = {}
    for sample in itertools.chain.from_iterable(family.samples for family in families):
        if sample.name.startswith(_PREFIX):
            bound = f" {sample.labels['le']}" if "le" in sample.labels else ""
            name = sample.name.removeprefix(_PREFIX) + bound
            found[name] = found.get(name, 0.0) + sample.value  # over the other labels
    return found


def inside(before: dict[str, float], after: dict[str, float], elapsed: float) -> dict[str, Any]:
    """What happened between two looks at the metrics.

    Returns:
        ``batch_mean`` and ``batches``, the share of batches by size (upper bounds of the histogram);
        ``shares`` of the mean latency that an image spends being decoded, in the queue, and in inference;
        ``busy``, the share of the time in which an inference ran, above 1 where several run at once.
    """
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}

    def mean(name: str) -> float:
        return grown[f"{name}_sum"] / max(grown[f"{name}_count"], 1.0)

    latency = mean("request_duration_seconds")
    count = max(grown["batch_size_count"], 1.0)
    bounds = sorted(
        (float(name.rpartition(" ")[2]), value)
        for name, value in grown.items()
        if "batch_size_bucket" in name
    )
    below = [0.0, *(value for _, value in bounds)]
    return {
        "batch_mean": mean("batch_size"),
        "batches": {
            f"{bound:g}": (value - less) / count for (bound, value), less in zip(bounds, below, strict=False)
        },
        "shares": {part: mean(name) / latency for part, name in _PARTS.items()},
        "busy": grown["inference_duration_seconds_sum"] / elapsed,
    }


def decode_rate(folder: Path, seconds: float = 5.0) -> float:
    """Images per second that all usable cores decode: what no service here can exceed."""
    images, turns, stop = read_images(folder), itertools.count(), threading.Event()

    def work() -> int:
        done = 0
        while not stop.is_set():
            decode(images[next(turns) % len(images)])
            done += 1
        return done

    with ThreadPoolExecutor(usable_cpus()) as pool:
        start = time.monotonic()
        workers = [pool.submit(work) for _ in range(usable_cpus())]
        time.sleep(seconds)
        stop.set()
        return sum(worker.result() for worker in workers) / (time.monotonic() - start)


def status_without_gpu(log: Path) -> int:
    """Exit status of the service when it demands a GPU and sees none: 1 is right."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DERMASERVE_")}
    demand = {"DERMASERVE_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": "-1", "DERMASERVE_PORT": "0"}
    command = [sys.executable, "-m", "service"]
    with log.open("wb") as out:
        done = subprocess.run(
            command, cwd=ROOT, env=inherited | demand, stdout=out, stderr=out, timeout=120, check=False
        )
    return done.returncode
