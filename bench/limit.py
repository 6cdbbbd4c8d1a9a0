"""The throughput of the machine without a server: the same JPEG files, decoder and graph in one process.

    python -m bench.limit --model model.onnx --images FOLDER

Prints one JSON object. Run it with the Python of the service, so that the libraries are the same. Each
core decodes an image and then runs the graph on it, with one thread: on a CPU that gives the highest
throughput (docs/performance.md).
"""

import argparse
import itertools
import json
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bench.graph_inputs import graph_inputs
from bench.images import read_images
from models.preprocess import decode
from service.system.cpus import usable_cpus

BATCHES = (1, 4)
"""Images of one run of the graph; the better batch is the limit."""

_OUTPUTS = ("probabilities", "cams", "disagreement", "ood_score")
"""All outputs that the service reads."""

Source = Callable[[], NDArray[np.uint8]]
"""Returns the next decoded image, ``[height, width, 3]``; called from several threads."""


def open_session(model: Path, threads: int) -> Any:
    """An ONNX Runtime session on the CPU with ``threads`` threads for a run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as in the service
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def classify(session: Any, source: Source, batch: int) -> float:
    """Decode and run ``batch`` images; returns the seconds that took."""
    start = time.perf_counter()
    session.run(_OUTPUTS, graph_inputs(session, np.stack([source() for _ in range(batch)])))
    return time.perf_counter() - start


def measure(session: Any, source: Source, batch: int, seconds: float) -> dict[str, float]:
    """Use all cores for ``seconds``, after a quarter of that as warm-up.

    Returns:
        ``throughput`` in images per second, and ``cpu``, seconds of processor time per image.
    """
    cores = usable_cpus()
    counting, stop = threading.Event(), threading.Event()
    found: list[float] = []

    def work() -> None:
        while not stop.is_set():
            counted, took = counting.is_set(), classify(session, source, batch)
            if counted:
                found.append(took)

    with ThreadPoolExecutor(cores) as pool:
        workers = [pool.submit(work) for _ in range(cores)]
        time.sleep(seconds / 4)
        counting.set()
        start, cpu = time.perf_counter(), time.process_time()
        time.sleep(seconds)
        while len(found) < 2 * cores and not any(worker.done() for worker in workers):
            time.sleep(0.05)
        elapsed, used, counted = time.perf_counter() - start, time.process_time() - cpu, list(found)
        stop.set()
        for worker in workers:
            worker.result()
    # Little's law. Counting what ends in a window would be off by the batches at its two ends.
    throughput = cores * batch / statistics.mean(counted)
    return {"throughput": throughput, "cpu": used / (throughput * elapsed)}


def single_seconds(session: Any, source: Source, seconds: float) -> float:
    """Median seconds of one image, decoded and run, one after the other."""
    classify(session, source, 1)
    end, times = time.perf_counter() + seconds, [classify(session, source, 1)]
    while time.perf_counter() < end:
        times.append(classify(session, source, 1))
    return statistics.median(times)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.limit", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each batch size")
    options = parser.parse_args()
    images = itertools.cycle(read_images(options.images))
    lock = threading.Lock()

    def source() -> NDArray[np.uint8]:
        with lock:
            data = next(images)
        return decode(data).pixels

    one_thread, all_cores = (open_session(options.model, threads) for threads in (1, usable_cpus()))
    found = {
        "batches": {batch: measure(one_thread, source, batch, options.seconds) for batch in BATCHES},
        "single": min(
            single_seconds(session, source, options.seconds / 2) for session in (one_thread, all_cores)
        ),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
