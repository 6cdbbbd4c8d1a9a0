"""What the machine can do: the same JPEG files, decode and graph, in one process with no server.

    python -m bench.limit --model model.onnx --images FOLDER

Prints one JSON object. Run with the Python of the service, so that the libraries are the same. Several
shapes are tried, of which the best is the limit: workers x threads of one inference x images at a time.
Where there are fewer workers than cores, as many threads as cores decode ahead of them.
"""

import argparse
import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bench.images import read_images
from bench.spread import steady_rate
from models.preprocess import decode
from service.system.cpus import usable_cpus

Pixels = NDArray[np.uint8]
Source = Callable[[], Pixels]
"""Gives the next image as a model reads it, ``[height, width, 3]``; called from many threads."""

_OUTPUTS = ("probabilities", "cams", "disagreement", "ood_score")
"""All that the service asks the graph for."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How the cores are used: ``workers`` runs at a time, ``threads`` each, ``batch`` images a run."""

    workers: int
    threads: int
    batch: int

    def __str__(self) -> str:
        """Such as ``2x1b4``, what ``parse`` reads."""
        return f"{self.workers}x{self.threads}b{self.batch}"

    @classmethod
    def parse(cls, text: str) -> "Shape":
        """From ``str(shape)``.

        Raises:
            ValueError: it is no shape.
        """
        workers, _, rest = text.partition("x")
        threads, _, batch = rest.partition("b")
        return cls(int(workers), int(threads), int(batch))


@dataclass(frozen=True, slots=True)
class Rate:
    """What one shape gave: images per second, and processor seconds per image of the whole process."""

    shape: str
    images_per_second: float
    cpu_per_image: float


def shapes(cores: int) -> list[Shape]:
    """Those that are tried on so many cores: one worker with all, and as many workers as cores."""
    pairs = dict.fromkeys([(cores, 1), (1, cores)])
    return [Shape(workers, threads, batch) for workers, threads in pairs for batch in (1, 4, 8)]


def open_session(model: Path, threads: int) -> Any:
    """An ONNX Runtime session on the CPU that uses so many threads for a run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # As in the service; and idle threads that spin would take the cores from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_batch(session: Any, images: Sequence[Pixels]) -> None:
    """One run; its outputs are let go."""
    session.run(_OUTPUTS, {"image": np.stack(images)})


def decoding(images: Sequence[bytes]) -> Source:
    """Decodes ``images`` in turn, again and again."""
    turns = itertools.count()
    return lambda: decode(images[next(turns) % len(images)]).pixels


def measure(session: Any, source: Source, shape: Shape, seconds: float) -> Rate:
    """Run ``shape`` for so many seconds and two rounds of each worker, after a warm-up of a quarter."""
    cores = usable_cpus()
    rounds: list[tuple[float, float]] = []  # begin and end of each batch
    stop = threading.Event()
    with ThreadPoolExecutor(cores + shape.workers) as pool:

        def work() -> None:
            ahead = shape.workers < cores
            batches = (
                _decoded_ahead(pool, source, shape.batch, cores) if ahead else _decoded(source, shape.batch)
            )
            begin = time.perf_counter()
            for batch in batches:
                if stop.is_set():
                    return
                run_batch(session, batch)
                end = time.perf_counter()
                rounds.append((begin, end))
                begin = end

        def cycles() -> list[float]:
            return [end - begin for begin, end in rounds if end >= start]

        workers = [pool.submit(work) for _ in range(shape.workers)]
        time.sleep(seconds / 4)
        start, cpu = time.perf_counter(), time.process_time()
        time.sleep(seconds)
        while len(cycles()) < 2 * shape.workers and not any(worker.done() for worker in workers):
            time.sleep(0.05)
        used, found = time.process_time() - cpu, cycles()
        stop.set()
        for worker in workers:
            worker.result()
    rate = shape.batch * steady_rate(found, at_a_time=shape.workers)
    return Rate(str(shape), rate, used / (shape.batch * len(found)))


def single_seconds(session: Any, source: Source, seconds: float) -> float:
    """Median seconds of one image, decoded and run, one after the other."""
    run_batch(session, [source()])
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        run_batch(session, [source()])
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _decoded(source: Source, batch: int) -> Iterator[list[Pixels]]:
    while True:
        yield [source() for _ in range(batch)]


def _decoded_ahead(
    pool: ThreadPoolExecutor, source: Source, batch: int, cores: int
) -> Iterator[list[Pixels]]:
    """Batches decoded in the pool's threads while an earlier one is being run."""
    coming: deque[Future[Pixels]] = deque()
    while True:
        while len(coming) < batch + cores:
            coming.append(pool.submit(source))
        yield [coming.popleft().result() for _ in range(batch)]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.limit", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--shapes", nargs="*", type=Shape.parse, help="such as 2x1b1; default: all")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each shape")
    options = parser.parse_args()
    cores = usable_cpus()
    source = decoding(read_images(options.images))
    tried = options.shapes or shapes(cores)
    sessions = {threads: open_session(options.model, threads) for threads in {1, cores}}
    sessions |= {shape.threads: open_session(options.model, shape.threads) for shape in tried}
    rates = [measure(sessions[shape.threads], source, shape, options.seconds) for shape in tried]
    single = {
        threads: single_seconds(sessions[threads], source, options.seconds / 2) for threads in {1, cores}
    }
    print(json.dumps({"rates": [asdict(rate) for rate in rates], "single_seconds": single}))


if __name__ == "__main__":
    main()
