"""``predict`` and ``predict --ray`` on the same images, in turns: images per second and core.

    .venv-ray/bin/python -m bench.bulk

The machine must be idle. The time of a small run is subtracted, so starting Python, Ray and the model does
not count. Ray runs on a cluster of its own on this machine, with one worker of one core for each core.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from service.system.cpus import usable_cpus
from tests.synthetic import draw_lesion, encoded

ROOT = Path(__file__).parents[1]
DRAWN = 200
"""Different images. Larger runs have each several times, under other names."""


def draw(folder: Path, count: int) -> None:
    """Draw ``count`` images of the size of HAM10000's."""
    rng = np.random.default_rng(3)
    drawn = [encoded(draw_lesion(rng), "JPEG", quality=90) for _ in range(min(count, DRAWN))]
    folder.mkdir()
    for index in range(count):
        (folder / f"{index:06}.jpg").write_bytes(drawn[index % len(drawn)])


def seconds(images: Path, output: Path, *options: str) -> float:
    """Run the command on a folder, and return the seconds that it took."""
    command = [sys.executable, "-m", "service", "predict", str(images), "--output", str(output), *options]
    environment = {**os.environ, "DERMASERVE_DEVICE": "cpu"}
    started = time.monotonic()
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return time.monotonic() - started


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=4000, help="in the large run; default: 4000")
    parser.add_argument("--few", type=int, default=400, help="in the small run; default: 400")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    options = parser.parse_args()
    cores = usable_cpus()
    rates: dict[str, list[float]] = {"predict": [], "predict --ray": []}
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        draw(top / "few", options.few)
        draw(top / "many", options.images)
        for number in range(options.rounds):
            turns = list(rates) if number % 2 else list(rates)[::-1]
            for turn in turns:
                # Parts of 100 images: both runs end with all workers busy.
                ray = ("--ray", "--address", "local", "--part-size", "100") if "--ray" in turn else ()
                few, many = (
                    seconds(top / size, top / f"{size}-{turn}-{number}", *ray) for size in ("few", "many")
                )
                rates[turn].append((options.images - options.few) / (many - few) / cores)
                print(
                    f"round {number + 1}: {turn}: {rates[turn][-1]:.1f} images per second and core",
                    flush=True,
                )
    print(f"\n{options.rounds} rounds in turns, {cores} cores, 600 x 450 JPEG")
    for turn, found in rates.items():
        print(f"{turn}: median {statistics.median(found):.1f}, {min(found):.1f} to {max(found):.1f}")
    pairs = [ray / plain for plain, ray in zip(*rates.values(), strict=True)]
    print(
        f"ratio within a round: median {statistics.median(pairs):.2f}, {min(pairs):.2f} to {max(pairs):.2f}"
    )


if __name__ == "__main__":
    main()
