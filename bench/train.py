"""``python -m bench.train`` (``make bench-train``): what training costs, by Keras backend.

Of each member of a recipe and each kind of phase: images per second, the share of time spent waiting
for input, the time from the start of the process to its first finished step, and what an epoch costs.
The loop, the batches and the cache of decoded images are the project's own
(``bench.train_once``). Backends take turns within every repetition, so that a machine that slows down
slows all of them. Images are those of ``DERMASERVE_HAM10000``, or drawn where that is not set; they
are decoded before the clock starts, as a run that goes on finds them.

A device that Keras' backend finds is used, a GPU too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any

from bench.machine import describe_machine
from bench.train_once import distinct_phases, short_recipe
from bench.train_report import markdown, summary
from models.errors import DermaserveError
from training.catalogue import load_recipe
from training.data.dataset import read_dataset
from training.data.split import make_split, rows_of, write_split
from training.run import Run

BACKENDS = ("tensorflow", "jax", "torch")
ROOT = Path(__file__).parents[1]

_SHARE = 0.02
"""Of the images in validation and in test each: as few as still hold every class."""

_ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "20000000000"}
"""As docs/training.md advises for a CPU; the environment's own values win."""


class TrainingBenchmarkError(DermaserveError):
    """A measurement ended with an error; the message is the end of what it printed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print Markdown, write JSON and Markdown; 0 on success, 2 on an error that is explained."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", default="ham10000_ensemble", help="default %(default)s")
    parser.add_argument(
        "--backend", action="append", choices=BACKENDS, help="default: all that are installed"
    )
    parser.add_argument("--repetitions", type=int, default=3, help="default %(default)s")
    parser.add_argument("--steps", type=int, default=4, help="of an epoch, at least 3 (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/train"), help="default %(default)s.*")
    given = parser.parse_args(arguments)
    try:
        if given.steps < 3 or given.repetitions < 1:
            raise TrainingBenchmarkError("--steps must be at least 3 and --repetitions at least 1")
        installed = {name: installed_version(name) for name in given.backend or BACKENDS}
        with tempfile.TemporaryDirectory(prefix="bench-train-") as folder:
            # Written after each repetition: a run that is cut off keeps what it found.
            for found in measure(Path(folder), given.recipe, installed, given.repetitions, given.steps):
                text = markdown(found)
                given.out.parent.mkdir(parents=True, exist_ok=True)
                given.out.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
                given.out.with_suffix(".md").write_text(text, "utf-8")
    except DermaserveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


def installed_version(package: str) -> str | None:
    """Its version; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def measure(
    folder: Path, name: str, installed: dict[str, str | None], repetitions: int, steps: int
) -> Iterator[dict[str, Any]]:
    """After each repetition, all figures of the recipe ``name`` so far, as ``bench.train_report`` reads them.

    Args:
        folder: for everything that is written on the way.
        name: of the recipe.
        installed: version by backend; one that has none is left out.
        repetitions: of everything.
        steps: of an epoch.

    Raises:
        TrainingBenchmarkError: a training failed.
        DermaserveError: the data set or the recipe cannot be used.
    """
    data = _dataset(folder)
    rows = read_dataset(data)
    split = make_split(rows, seed=0, validation=_SHARE, test=_SHARE)
    write_split(folder / "split.csv", rows, split)
    images = len(rows_of(rows, split, "train"))
    recipe = short_recipe(name, steps, images)
    places = {"data": data, "split": folder / "split.csv", "cache": folder / "cache"}
    common = places | {"recipe": name, "steps": steps, "images": images}
    decoded = _decode(Run.create(folder / "decode", recipe, seed=0, **places))
    present = [backend for backend, number in installed.items() if number]
    if not present:
        raise TrainingBenchmarkError(f"none of {', '.join(installed)} is installed: `make train-env`")
    runs: list[dict[str, Any]] = []
    for repetition in range(repetitions):
        for member, backend in product(recipe.members, present):
            print(f"{repetition + 1}/{repetitions} {member.name} with {backend}", file=sys.stderr, flush=True)
            out = folder / f"{backend}-{member.name}-{repetition}"
            found = _train_once(backend, common | {"member": member.name, "out": out})
            runs.append({"backend": backend, "member": member.name, "repetition": repetition} | found)
        yield {
            "machine": describe_machine(),
            "recipe": name,
            "backends": installed,
            "real_images": data.parent != folder,
            "training_images": images,
            "batch_size": recipe.batch_size,
            "steps": steps,
            "decoded_images_per_second": decoded,
            "figures": summary(load_recipe(name), runs),
            "runs": runs,
        }


def _dataset(folder: Path) -> Path:
    """The real data set, or a drawn one."""
    real = os.environ.get("DERMASERVE_HAM10000")
    if real:
        return Path(real)
    from tests.synthetic_dataset import write_dataset

    return write_dataset(folder / "drawn", lesions=16)


def _decode(run: Run) -> float:
    """Decode everything that the trainings will read; images per second."""
    sizes = {size for member in run.recipe.members for _, size in distinct_phases(member, run.recipe)}
    started, count = time.monotonic(), 0
    for part, size in product(("train", "validation"), sizes):
        count += len(run.pixels(part, size))
    return count / (time.monotonic() - started)


def _train_once(backend: str, options: dict[str, Any]) -> dict[str, Any]:
    """``bench.train_once`` in a process of its own."""
    environment = _ALLOCATOR | os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    given = (text for name, value in options.items() for text in (f"--{name}", str(value)))
    command = [sys.executable, "-m", "bench.train_once", *given, "--started", str(time.monotonic())]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TrainingBenchmarkError(f"training with {backend} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads((options["out"] / "measured.json").read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    sys.exit(main())
