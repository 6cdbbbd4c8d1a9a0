"""Training speed: ``python -m bench.train``, or ``make bench-train``.

For each member of a recipe and each kind of phase: images per second, the share of time that training waits
for input, and the minutes of an epoch. The project's own loop trains two short epochs of each kind, from
random weights; the first compiles, the second counts. The images are those of ``DERMASERVE_HAM10000``, or
drawn ones if that is not set. They are decoded in advance, as in a run that is resumed. Keras uses the
backend that ``KERAS_BACKEND`` names, and a GPU if it finds one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from bench.machine import describe_machine
from bench.peers import ROOT
from bench.report import spread
from models.errors import DermaserveError
from training.catalogue import load_recipe
from training.data.dataset import read_dataset
from training.data.split import make_split, rows_of, write_split
from training.fit.curves import read_history
from training.markdown import table
from training.recipe import MemberRecipe, Phase, Recipe, adjust
from training.run import Run

TRAINING_IMAGES, VALIDATION_IMAGES = 7009, 1498
"""Of the shipped split of HAM10000, for the minutes of an epoch."""

_EPOCHS = 2  # of each kind of phase
_SHARE = 0.02  # of the images in validation and in test: few, but some of every class

_ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "20000000000"}
"""As the training guide advises for a CPU; values in the environment win."""

_TRAIN = """
import sys
from pathlib import Path
from training.fit.loop import train_member
from training.run import Run
run = Run.open(Path(sys.argv[1]))
train_member(run, run.recipe.member(sys.argv[2]))
"""


class TrainingBenchmarkError(DermaserveError):
    """A measurement failed; the message is the end of what it printed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print Markdown, write JSON and Markdown; returns 0, or 2 after printing an error."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", default="ham10000_ensemble", help="default %(default)s")
    parser.add_argument("--repetitions", type=int, default=3, help="default %(default)s")
    parser.add_argument("--steps", type=int, default=4, help="of an epoch (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/train"), help="default %(default)s.*")
    given = parser.parse_args(arguments)
    try:
        if given.steps < 1 or given.repetitions < 1:
            raise TrainingBenchmarkError("--steps and --repetitions must be at least 1")
        with tempfile.TemporaryDirectory(prefix="bench-train-") as folder:
            # Written after each repetition, so that an interrupted run keeps its figures.
            for found in measure(Path(folder), given.recipe, given.repetitions, given.steps):
                text = markdown(found)
                given.out.parent.mkdir(parents=True, exist_ok=True)
                given.out.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
                given.out.with_suffix(".md").write_text(text, "utf-8")
    except DermaserveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


def measure(folder: Path, name: str, repetitions: int, steps: int) -> Iterator[dict[str, Any]]:
    """Yields, after each repetition, all figures so far, as ``markdown`` reads them.

    Args:
        folder: for runs and decoded images.
        name: of the recipe.
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
    shipped, recipe = load_recipe(name), short_recipe(name, steps, images)
    places = {"data": data, "split": folder / "split.csv", "cache": folder / "cache"}
    figures: list[dict[str, Any]] = []
    for repetition in range(repetitions):
        for member in recipe.members:
            print(f"{repetition + 1}/{repetitions} {member.name}", file=sys.stderr, flush=True)
            run = Run.create(folder / f"{member.name}-{repetition}", recipe, seed=0, **places)
            for part, (_, size) in product(("train", "validation"), kinds(member, recipe)):
                run.pixels(part, size)  # decodes them
            _train(run, member)
            figures += [{"member": member.name} | each for each in phase_figures(run, member.name, shipped)]
        yield {
            "machine": describe_machine(),
            "recipe": name,
            "training_images": images,
            "batch_size": recipe.batch_size,
            "repetitions": repetition + 1,
            "figures": figures,
        }


def kinds(member: MemberRecipe, recipe: Recipe) -> dict[tuple[str, tuple[int, int]], list[Phase]]:
    """The phases of ``member`` by cost: which layers train, and height and width of the images."""
    found: dict[tuple[str, tuple[int, int]], list[Phase]] = {}
    for phase in member.phases:
        found.setdefault((str(phase.trainable), recipe.phase_size(member, phase)), []).append(phase)
    return found


def short_recipe(name: str, steps: int, images: int) -> Recipe:
    """The recipe ``name`` with one phase of each kind, for two epochs of ``steps``.

    It starts from random weights, which cost the same and need no download. ``images`` is the size of the
    training part.
    """
    recipe = load_recipe(name)
    random = {member.name: "none" for member in recipe.members}
    recipe = adjust(recipe, starting_weights=random, epoch_size=steps * recipe.batch_size / images)
    members = []
    for member in recipe.members:
        phases = tuple(replace(same[0], epochs=_EPOCHS) for same in kinds(member, recipe).values())
        members.append(replace(member, phases=phases))
    return replace(recipe, members=tuple(members))


def phase_figures(run: Run, member: str, shipped: Recipe) -> Iterator[dict[str, Any]]:
    """The figures of each kind of phase, from its last epoch in ``history.csv``.

    Args:
        run: of a recipe from ``short_recipe``, with ``member`` trained.
        member: name of one of its members.
        shipped: the recipe that was shortened.
    """
    history = {row["phase"]: row for row in read_history(run.folder / member / "history.csv")}
    draws = len(run.part("train")) * run.recipe.epoch_size
    for index, (kind, phases) in enumerate(kinds(shipped.member(member), shipped).items()):
        row = history[index]
        training = row["seconds"] - row["validation_seconds"]
        validation = row["validation_seconds"] / len(run.part("validation"))
        epoch = TRAINING_IMAGES * shipped.epoch_size * training / draws + VALIDATION_IMAGES * validation
        yield {
            "trainable": kind[0],
            "size": kind[1],
            "epochs": sum(phase.epochs for phase in phases),
            "images_per_second": draws / training,
            "waiting": row["input_wait"] / training,
            "epoch_minutes": epoch / 60,
        }


def markdown(found: dict[str, Any]) -> str:
    """What ``measure`` found: medians, with the smallest and the largest in brackets."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for figure in found["figures"]:
        kind = (figure["member"], figure["trainable"], " × ".join(map(str, figure["size"])))
        groups.setdefault(kind, []).append(figure)
    rows = []
    for name, figures in groups.items():
        rates, waiting, minutes = (
            [factor * figure[value] for figure in figures]
            for value, factor in (("images_per_second", 1), ("waiting", 100), ("epoch_minutes", 1))
        )
        rows.append([*name, spread(rates, 1), spread(waiting), spread(minutes, 1)])
    machine = found["machine"]
    head = ("member", "trained", "pixels", "images/s", "waiting for input, %", "minutes of an epoch")
    first = (
        f"Recipe `{found['recipe']}`, batches of {found['batch_size']}, {found['training_images']:,} "
        f"images ({machine['images']}); {machine['usable cores']} cores of {machine['processor']}. "
        f"Medians of {found['repetitions']} repetitions with the smallest and the largest."
    )
    return "\n".join([first, "", *table(head, rows)])


def _dataset(folder: Path) -> Path:
    real = os.environ.get("DERMASERVE_HAM10000")
    if real:
        return Path(real)
    from tests.synthetic_dataset import write_dataset

    return write_dataset(folder / "drawn", lesions=16)


def _train(run: Run, member: MemberRecipe) -> None:
    """Train in a process of its own, as ``python -m training`` does: nothing is compiled yet."""
    environment = _ALLOCATOR | os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", _TRAIN, str(run.folder), member.name]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TrainingBenchmarkError(f"training failed: {done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
