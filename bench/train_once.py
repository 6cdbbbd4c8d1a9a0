"""One member trained for a few steps of each of its phases by the project's own loop, with a clock beside it.

A process of its own, started by ``bench.train``, for ``KERAS_BACKEND`` holds for a whole process and
the time to the first step begins with it. The loop runs unchanged, but for two of the functions that it
calls: the one that hands out batches and the one that predicts note the time around what they do.
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from training.catalogue import load_recipe
from training.recipe import MemberRecipe, Phase, Recipe, adjust
from training.run import Run

EPOCHS = 2
"""Of each phase: the first compiles, the second is measured."""


class Moment(NamedTuple):
    """One batch as the loop saw it; times in seconds, of ``time.monotonic``."""

    asked: float
    got: float
    images: int


class Clock:
    """Notes when the loop asks for batches and gets them, and how long its predictions take.

    Attributes:
        epochs: the moments of each epoch of training.
        predictions: images per second of each call of ``predict_logits``.
    """

    def __init__(self) -> None:
        from training.fit.batches import prefetch
        from training.fit.loop import predict_logits

        self.epochs: list[list[Moment]] = []
        self.predictions: list[float] = []
        self._prefetch, self._predict = prefetch, predict_logits

    def prefetch(self, drawn: Iterable[Any]) -> Iterator[Any]:
        """As ``training.fit.batches.prefetch``."""
        moments: list[Moment] = []
        self.epochs.append(moments)
        asked = time.monotonic()
        for batch in self._prefetch(drawn):
            moments.append(Moment(asked, time.monotonic(), len(batch[0])))
            yield batch
            asked = time.monotonic()

    def predict(self, network: Any, pixels: Any, batch_size: int) -> Any:
        """As ``training.fit.loop.predict_logits``."""
        started = time.monotonic()
        logits = self._predict(network, pixels, batch_size)
        # The last batch is filled up: in a validation part of full size that is next to nothing.
        images = -(-len(pixels) // batch_size) * batch_size
        self.predictions.append(images / (time.monotonic() - started))
        return logits


def distinct_phases(member: MemberRecipe, recipe: Recipe) -> dict[tuple[str, tuple[int, int]], list[Phase]]:
    """The phases of ``member`` by what they cost: which layers train, and height and width of the images."""
    found: dict[tuple[str, tuple[int, int]], list[Phase]] = {}
    for phase in member.phases:
        found.setdefault((str(phase.trainable), recipe.phase_size(member, phase)), []).append(phase)
    return found


def short_recipe(name: str, steps: int, images: int) -> Recipe:
    """The recipe ``name``, with every distinct phase of a member once, for ``EPOCHS`` epochs of ``steps``.

    From random weights, which cost the same and need no download. ``images`` is the size of the
    training part.
    """
    recipe = load_recipe(name)
    random = {member.name: "none" for member in recipe.members}
    recipe = adjust(recipe, starting_weights=random, epoch_size=steps * recipe.batch_size / images)
    members = tuple(
        replace(
            member,
            phases=tuple(
                replace(same[0], epochs=EPOCHS) for same in distinct_phases(member, recipe).values()
            ),
        )
        for member in recipe.members
    )
    return replace(recipe, members=members)


def measure(run: Run, member: MemberRecipe, started: float) -> dict[str, Any]:
    """Train ``member`` of ``run`` and say what it took.

    Args:
        run: of a recipe from ``short_recipe``, with nothing trained.
        member: one of its recipe's.
        started: ``time.monotonic`` when this process was started.

    Returns:
        ``seconds_to_first_step``, ``devices`` and, by phase, ``trainable``, ``size`` (height and width), the
        seconds of the ``first_step``, ``images_per_second`` of training and of validation, and the share of
        training's time spent ``waiting`` for input.
    """
    import keras

    from training.fit import loop

    clock = Clock()
    with patch.object(loop, "prefetch", clock.prefetch), patch.object(loop, "predict_logits", clock.predict):
        loop.train_member(run, member)
    # Before its second asking for a batch the loop has finished a step.
    phases: list[dict[str, Any]] = []
    for index, (trainable, size) in enumerate(distinct_phases(member, run.recipe)):
        first, *_, warm = clock.epochs[EPOCHS * index : EPOCHS * (index + 1)]
        phases.append(
            {"trainable": trainable, "size": size, "first_step": first[1].asked - first[0].got}
            | rates(warm)
            # A phase after the first begins with a validation, and each epoch ends with one.
            | {"validation_images_per_second": clock.predictions[(EPOCHS + 1) * index + EPOCHS - 1]}
        )
    return {
        "seconds_to_first_step": clock.epochs[0][1].asked - started,
        "devices": keras.distribution.list_devices(),
        "phases": phases,
    }


def rates(moments: list[Moment]) -> dict[str, float]:
    """Images per second and the share of time spent waiting, from one epoch's moments.

    From the asking for the first batch, which nothing could prepare, to that for the last.
    """
    seconds = moments[-1].asked - moments[0].asked
    waited = sum(moment.got - moment.asked for moment in moments[:-1])
    images = sum(moment.images for moment in moments[:-1])
    return {"images_per_second": images / seconds, "waiting": waited / seconds}


def main() -> None:
    """Measure what the arguments say and write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.train_once", description=__doc__)
    for name in ("data", "split", "cache", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name, kind in (("recipe", str), ("member", str), ("steps", int), ("images", int), ("started", float)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    given = parser.parse_args()
    recipe = short_recipe(given.recipe, given.steps, given.images)
    run = Run.create(given.out, recipe, data=given.data, split=given.split, seed=0, cache=given.cache)
    found = measure(run, recipe.member(given.member), given.started)
    (given.out / "measured.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
