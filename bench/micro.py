"""The parts of a request, each alone on one thread, and the shipped graph against the plain export.

    python -m bench.micro --model model.onnx --small FOLDER --large FOLDER [--plain plain.onnx]

Prints one JSON object of seconds by name. Run with the Python of the service.
"""

import argparse
import io
import itertools
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.images import read_images
from bench.limit import Pixels, Shape, measure, open_session, run_batch
from models.preprocess import decode
from models.quality import measure_quality
from service.batcher import Batcher
from service.cpus import usable_cpus
from service.examples import PREDICTION
from service.gradcam import draw_overlay
from service.schemas import Prediction

BATCHES = (1, 2, 4, 8, 16)


def seconds_of(action: Callable[[], object], seconds: float) -> float:
    """Median seconds of one call, of as many as fit in ``seconds``, after one that does not count."""
    action()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def codec(data: bytes) -> None:
    """Pillow alone, at full size: what decoding at a reduced scale saves."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()


def in_turn(action: Callable[[bytes], object], images: Sequence[bytes]) -> Callable[[], object]:
    """``action`` on the next of ``images`` at each call."""
    turns = itertools.cycle(images)
    return lambda: action(next(turns))


def batcher_seconds(seconds: float) -> dict[str, float]:
    """Of one item through a ``Batcher`` whose function does nothing: alone, and among a hundred."""
    batcher: Batcher[int, int] = Batcher(lambda items: items, workers=1, max_batch_size=8, batch_timeout=0)

    def many() -> None:
        for future in [batcher.submit(number) for number in range(100)]:
            future.result()

    try:
        alone = seconds_of(lambda: batcher.submit(1).result(), seconds)
        return {"batcher, alone": alone, "batcher, queued": seconds_of(many, seconds) / 100}
    finally:
        batcher.close()


def parts(model: Path, small: Sequence[bytes], large: Sequence[bytes], seconds: float) -> dict[str, float]:
    """Seconds of each part; of inference, per image."""
    found: dict[str, float] = {}
    for size, images in (("600x450", small), ("12mp", large)):
        found[f"codec {size}"] = seconds_of(in_turn(codec, images), seconds)
        found[f"preprocess {size}"] = seconds_of(in_turn(decode, images), seconds)
    pixels = decode(small[0]).pixels
    found["quality"] = seconds_of(lambda: measure_quality(pixels), seconds)
    session = open_session(model, 1)
    for count in BATCHES:
        inference = partial(run_batch, session, [pixels] * count)
        found[f"inference {count}"] = seconds_of(inference, seconds) / count
    cams = session.run(["cams"], {"image": pixels[None]})[0]
    found["overlay + PNG"] = seconds_of(lambda: draw_overlay(pixels, cams[0, 0]), seconds)
    answer = Prediction.model_validate(PREDICTION)
    found["JSON"] = seconds_of(answer.model_dump_json, seconds)
    return found | batcher_seconds(seconds)


def images_per_second(
    session_of: Callable[[int], Any], source: Callable[[], Pixels], seconds: float
) -> float:
    """The most that a graph does without decoding, over one image per core and batches on all cores."""
    cores = usable_cpus()
    tried = dict.fromkeys([Shape(cores, 1, 1), Shape(1, cores, 4)])
    rates = [measure(session_of(shape.threads), source, shape, seconds) for shape in tried]
    return max(rate.images_per_second for rate in rates)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.micro", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--plain", type=Path, help="the plain tf2onnx export, to compare the graph with")
    parser.add_argument("--small", type=Path, required=True, help="folder of 600x450 JPEG files")
    parser.add_argument("--large", type=Path, required=True, help="folder of 12-megapixel JPEG files")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each part")
    options = parser.parse_args()
    small, large = read_images(options.small), read_images(options.large)
    found = parts(options.model, small, large, options.seconds)
    if options.plain is not None:
        pixels = decode(small[0]).pixels
        for name, path in (("shipped", options.model), ("plain", options.plain)):
            sessions = {threads: open_session(path, threads) for threads in {1, usable_cpus()}}
            rate = images_per_second(sessions.__getitem__, lambda: pixels, 2 * options.seconds)
            found[f"graph, {name}"] = 1 / rate
    print(json.dumps(found))


if __name__ == "__main__":
    main()
