"""The measurements of ``bench.train`` summed up, and as Markdown."""

from collections.abc import Iterable
from itertools import product
from typing import Any

from bench.report import table
from bench.spread import spread
from bench.train_once import distinct_phases
from training.recipe import Recipe

TRAINING_IMAGES, VALIDATION_IMAGES = 7009, 1498
"""Of the shipped split of HAM10000: what an epoch draws from, and what it validates on."""


def summary(recipe: Recipe, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each member, kind of phase and backend; every figure with the spread of its repetitions.

    ``epoch_minutes`` is an epoch of ``recipe`` on the shipped split, validation included, and ``epochs`` how
    many of this kind it has. What is ``relative`` compares with the first backend, repetition by repetition.
    """
    backends = list(dict.fromkeys(run["backend"] for run in runs))
    draws = round(TRAINING_IMAGES * recipe.epoch_size)

    def minutes(phase: dict[str, float]) -> float:
        training = draws / phase["images_per_second"]
        return (training + VALIDATION_IMAGES / phase["validation_images_per_second"]) / 60

    figures = []
    for member in recipe.members:
        by_backend = {
            backend: [run for run in runs if (run["member"], run["backend"]) == (member.name, backend)]
            for backend in backends
        }
        kinds = enumerate(distinct_phases(member, recipe).items())
        for (index, ((trainable, size), phases)), backend in product(kinds, backends):
            own, others = by_backend[backend], by_backend[backends[0]]
            mine, theirs = ([run["phases"][index] for run in some] for some in (own, others))
            figures.append(
                {"member": member.name, "trainable": trainable, "size": size, "backend": backend}
                | {"epochs": sum(phase.epochs for phase in phases), "devices": own[0]["devices"]}
                | {
                    "images_per_second": _spread(phase["images_per_second"] for phase in mine),
                    "relative": _relative(mine, theirs, "images_per_second"),
                    "waiting": _spread(phase["waiting"] for phase in mine),
                    "first_step_seconds": _spread(phase["first_step"] for phase in mine),
                    "epoch_minutes": _spread(map(minutes, mine)),
                    "start_to_first_step_seconds": _spread(run["seconds_to_first_step"] for run in own),
                    "start_relative": _relative(own, others, "seconds_to_first_step"),
                }
            )
    return figures


def markdown(found: dict[str, Any]) -> str:
    """What ``bench.train.measure`` found, as Markdown: medians with the least and the most."""
    figures = found["figures"]
    reference, repetitions = figures[0]["backend"], figures[0]["relative"]["repetitions"]
    versions = [f"{name} {number or '(not installed)'}" for name, number in found["backends"].items()]
    rows = [
        (
            *(figure["member"], figure["trainable"], " × ".join(map(str, figure["size"])), figure["backend"]),
            "{median:.1f} [{low:.1f}, {high:.1f}]".format(**figure["images_per_second"]),
            _ratio(figure["relative"]),
            "{median:.2%} [{low:.2%}, {high:.2%}]".format(**figure["waiting"]),
            "{median:.1f}".format(**figure["epoch_minutes"]),
        )
        for figure in figures
    ]
    starts = {
        (f["member"], f["backend"]): (
            "{median:.0f} [{low:.0f}, {high:.0f}]".format(**f["start_to_first_step_seconds"]),
            _ratio(f["start_relative"]),
        )
        for f in figures
    }
    head = ("member", "trained", "pixels", "backend", "images/s", f"{reference} = 1", "waiting for input")
    return "\n".join(
        [
            f"Recipe `{found['recipe']}`, batches of {found['batch_size']}, {found['training_images']:,} "
            f"{'images of HAM10000' if found['real_images'] else 'drawn images'}; {', '.join(versions)}; "
            f"{found['machine']['usable cores']} cores of {found['machine']['processor']}"
            f"{_devices(figures)}. "
            f"Medians of {repetitions} interleaved repetitions with the least and the most of them.",
            "",
            table((*head, "minutes of an epoch"), rows),
            table(
                ("member", "backend", "seconds from start to first step", f"{reference} = 1"),
                [(*who, *found) for who, found in starts.items()],
            ),
            f"All epochs of the recipe, {reference} = 1: {_whole(figures)}.",
            "",
        ]
    )


def _devices(figures: list[dict[str, Any]]) -> str:
    """What else than processors was used."""
    found = {device for figure in figures for device in figure["devices"] if not device.startswith("cpu")}
    return "".join(f", {device}" for device in sorted(found))


def _whole(figures: list[dict[str, Any]]) -> str:
    """What all epochs cost with each backend, as a multiple of the first."""
    minutes: dict[str, float] = {}
    for figure in figures:
        cost = figure["epochs"] * figure["epoch_minutes"]["median"]
        minutes[figure["backend"]] = minutes.get(figure["backend"], 0.0) + cost
    first = next(iter(minutes.values()))
    return ", ".join(f"{backend} {total / first:.2f}" for backend, total in minutes.items())


def _spread(values: Iterable[float]) -> dict[str, float]:
    return spread(list(values))._asdict()


def _relative(mine: list[dict[str, Any]], theirs: list[dict[str, Any]], key: str) -> dict[str, float]:
    return _spread(a[key] / b[key] for a, b in zip(mine, theirs, strict=True))


def _ratio(values: dict[str, float]) -> str:
    return f"{values['median']:.2f} [{values['low']:.2f}, {values['high']:.2f}]"
