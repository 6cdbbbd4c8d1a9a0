"""Random search for a network from scratch, as in the report behind ``recipes/benign_malignant``.

Every trial draws a network and an optimizer at random (Bergstra and Bengio, "Random Search for
Hyper-Parameter Optimization", JMLR 2012), trains it as any other run and is scored on validation data
alone; the test part is never read. What trial ``n`` draws depends on the seed and ``n`` only, so that a
search that was stopped goes on as if it had not been.

trials.db    the trials, as Optuna keeps them
trials/      a run folder each
trials.csv   what each drew and how it did, the best first
best.py      the recipe of the best, for ``python -m training run --recipe``
"""

import csv
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from training.data.dataset import Task
from training.data.prepare import SPLIT_NAME, prepare
from training.fit.checkpoint import read_state
from training.fit.loop import TrainingError, train_member
from training.recipe import Block, Head, MemberRecipe, Phase, Recipe, RecipeError, ScratchCNN
from training.recipes.benign_malignant import AUGMENTATION
from training.run import Run
from training.search.recipe_source import recipe_source

SPACE: dict[str, BaseDistribution] = {
    "blocks": IntDistribution(2, 5),
    "convolutions": IntDistribution(1, 2),
    "filters": CategoricalDistribution((16, 32, 64)),
    "kernel": CategoricalDistribution((3, 5)),
    "pooling": CategoricalDistribution(("max", "average")),
    "initializer": CategoricalDistribution(("glorot_uniform", "he_normal", "random_uniform")),
    "hidden": CategoricalDistribution((32, 64, 128)),
    "dropout": CategoricalDistribution((0.2, 0.3, 0.4, 0.5)),
    "optimizer": CategoricalDistribution(("adam", "adamax", "nadam", "rmsprop", "sgd")),
    # Optimizers can only be compared each at a rate of its own.
    "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
}
"""What is drawn, and from where; each value independently of the others."""

_FIGURES = ("loss", "accuracy", "balanced_accuracy")
_MEMBER = "scratch"


@dataclass(frozen=True)
class SearchOptions:
    """What all trials of a search have in common."""

    task: Task = "malignancy"
    image_size: int = 64  # pixels, a side
    max_epochs: int = 10
    epoch_size: float = 1.0  # draws of an epoch, as a multiple of the number of training images
    seed: int = 0


def search(data: Path, out: Path, options: SearchOptions, *, trials: int) -> Recipe:
    """Run trials until ``out`` holds ``trials`` of them, and return the recipe of the best.

    The best is the one with the lowest cross entropy on validation data in any of its epochs.

    Args:
        data: folder of the data set in its published layout.
        out: folder of the search; a search that was stopped there goes on.
        options: what the trials share; those of the search in ``out`` if it holds one.
        trials: how many there are to be in the end.

    Raises:
        RecipeError: ``out`` holds a search with other options, or no trial came to its end.
        DataError: the data set is not usable.
    """
    if not (out / SPLIT_NAME).is_file():
        prepare(data, out, seed=options.seed)
    study = _study(out, options)
    for number in range(trials):
        trial = _trial(study, number, options.seed)
        if trial.state is not TrialState.RUNNING:
            continue
        recipe = trial_recipe(number, trial.params, options)
        try:
            loss = _train(data, out, recipe, options.seed)["loss"]
        except TrainingError as error:  # a rate too high for this network; the next trial draws another
            print(f"trial {number} failed: {error}", flush=True)
            study.tell(number, state=TrialState.FAIL)
            continue
        study.tell(number, loss)
        print(f"trial {number}, {number + 1} of {trials}: validation loss {loss:.4f}", flush=True)
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    _write_table(out, study)
    if not finished:
        raise RecipeError(f"{out}: none of the {trials} trials came to its end")
    best = trial_recipe(study.best_trial.number, study.best_trial.params, options)
    text = recipe_source(best, _docstring(out, study.best_trial, len(finished)))
    (out / "best.py").write_text(text, encoding="utf-8")
    return best


def trial_recipe(number: int, drawn: dict[str, Any], options: SearchOptions) -> Recipe:
    """The recipe of trial ``number`` from what it drew, a value for each key of ``SPACE``."""
    block = Block(drawn["filters"], convolutions=drawn["convolutions"])
    phase = Phase(
        "all",
        epochs=options.max_epochs,
        learning_rate=float(f"{drawn['learning_rate']:.2g}"),
        schedule="constant",
        stop_patience=3,
    )
    member = MemberRecipe(
        name=_MEMBER,
        backbone=ScratchCNN(
            (block,) * drawn["blocks"],
            kernel=drawn["kernel"],
            pooling=drawn["pooling"],
            initializer=drawn["initializer"],
        ),
        head=Head(pooling="flatten", hidden=(drawn["hidden"],), dropout=drawn["dropout"]),
        phases=(phase,),
        scaling="unit",
        starting_weights="none",
    )
    return Recipe(
        name=_name(number),
        members=(member,),
        task=options.task,
        image_size=options.image_size,
        sampling_power=0.0,
        epoch_size=options.epoch_size,
        optimizer=drawn["optimizer"],
        augmentation=AUGMENTATION,
    )


def _name(number: int) -> str:
    return f"search_trial_{number}"


def _study(out: Path, options: SearchOptions) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="search", storage=f"sqlite:///{out.resolve() / 'trials.db'}", load_if_exists=True
    )
    known, wanted = study.user_attrs.get("options"), asdict(options)
    if known not in (None, wanted):
        raise RecipeError(f"{out} holds a search with other options, {known}; choose another folder")
    study.set_user_attr("options", wanted)
    return study


def _trial(study: optuna.Study, number: int, seed: int) -> FrozenTrial:
    """Trial ``number``: as the study has it, or newly drawn."""
    known = study.get_trials(deepcopy=False)
    if number >= len(known):
        drawn_from = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        study.sampler = RandomSampler(seed=drawn_from)
        study.ask(SPACE)
        known = study.get_trials(deepcopy=False)
    return known[number]


def _train(data: Path, out: Path, recipe: Recipe, seed: int) -> dict[str, float]:
    """Train the recipe and return the validation figures of its best epoch."""
    split, cache = out / SPLIT_NAME, out / "cache"
    folder = _folder(out, recipe.name)
    run = Run.create(folder, recipe, data=data, split=split, seed=seed, cache=cache)
    keras.backend.clear_session()
    train_member(run, recipe.members[0])
    for weights in folder.glob("*/*.weights.h5"):  # were for going on; the finished network has its own
        weights.unlink()
    return _figures(folder)


def _folder(out: Path, name: str) -> Path:
    return out / "trials" / name


def _figures(folder: Path) -> dict[str, float]:
    """Validation figures of a trial's best epoch, and the seconds of all."""
    history = read_state(folder / _MEMBER).history
    best = min(history, key=lambda epoch: epoch["loss"])
    return {name: best[name] for name in _FIGURES} | {"seconds": sum(epoch["seconds"] for epoch in history)}


def _write_table(out: Path, study: optuna.Study) -> None:
    """``trials.csv``: one line a trial, the best first, those that failed last."""
    rows = []
    for trial in study.get_trials(deepcopy=False):
        complete = trial.state is TrialState.COMPLETE
        figures = _figures(_folder(out, _name(trial.number))) if complete else {}
        rows.append({"trial": trial.number, "state": trial.state.name.lower(), **figures, **trial.params})
    rows.sort(key=lambda row: (row.get("loss", math.inf), row["trial"]))
    with (out / "trials.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ("trial", "state", *_FIGURES, "seconds", *SPACE), restval="")
        writer.writeheader()
        writer.writerows(rows)


def _docstring(out: Path, best: FrozenTrial, finished: int) -> str:
    return (
        f"The best of {finished} networks from scratch, found by random search.\n\n"
        f"    python -m training run --recipe {(out / 'best.py').as_posix()} --data DIR --out runs/NAME\n\n"
        f"Trial {best.number}: cross entropy {best.value:.4f} on validation data, in its best epoch. "
        "The best of many\n"
        "flatters; only the test part tells how good the network is."
    )
