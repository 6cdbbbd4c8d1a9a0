"""Random search for a network from scratch, as in the source of ``recipes/benign_malignant``.

Every trial draws a network and an optimizer at random (Bergstra and Bengio, "Random Search for
Hyper-Parameter Optimization", JMLR 2012), trains it as a run, and is evaluated on validation data; test
images are never read. The values of trial ``n`` depend only on the seed and on ``n``, so a stopped search
continues with the same trials.

trials.db    Optuna's storage of the trials
trials/      a run folder for each trial
trials.csv   values and metrics of each trial, the best first
best.py      the recipe of the best trial, for ``python -m training run --recipe``
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
    # Each optimizer needs its own learning rate, so the rate is drawn too.
    "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
}
"""The distributions of the values of a trial, which are drawn independently."""

_METRICS = ("loss", "accuracy", "balanced_accuracy")
_MEMBER = "scratch"


@dataclass(frozen=True)
class SearchOptions:
    """Options that all trials of a search share; they are as in ``Recipe``.

    Attributes:
        task: the task.
        image_size: side of the images in pixels.
        max_epochs: upper bound on the epochs of a trial.
        epoch_size: number of draws per epoch, as a multiple of the number of training images.
        seed: seed of the split, the drawn values and the training.
    """

    task: Task = "malignancy"
    image_size: int = 64
    max_epochs: int = 10
    epoch_size: float = 1.0
    seed: int = 0


def search(data: Path, out: Path, options: SearchOptions, *, trials: int) -> Recipe:
    """Run trials until ``out`` holds ``trials`` of them, and return the recipe of the best trial.

    The best trial is the one with the lowest cross entropy on validation data in any epoch.

    Args:
        data: folder of the data set in its published layout.
        out: folder of the search; a stopped search there is continued.
        options: options of all trials; they must equal those of a search in ``out``.
        trials: total number of trials, including earlier ones.

    Raises:
        RecipeError: ``out`` holds a search with other options, or all trials failed.
        DataError: the data set cannot be used.
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
        except TrainingError as error:  # the learning rate is too high for this network
            print(f"trial {number} failed: {error}", flush=True)
            study.tell(number, state=TrialState.FAIL)
            continue
        study.tell(number, loss)
        print(f"trial {number}, {number + 1} of {trials}: validation loss {loss:.4f}", flush=True)
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    _write_table(out, study)
    if not finished:
        raise RecipeError(f"{out}: all {trials} trials failed")
    best = trial_recipe(study.best_trial.number, study.best_trial.params, options)
    text = recipe_source(best, _docstring(out, study.best_trial, len(finished)))
    (out / "best.py").write_text(text, encoding="utf-8")
    return best


def trial_recipe(number: int, drawn: dict[str, Any], options: SearchOptions) -> Recipe:
    """Return the recipe of trial ``number``; ``drawn`` has a value for each key of ``SPACE``."""
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
        raise RecipeError(f"{out}: holds a search with other options, {known}; choose another folder")
    study.set_user_attr("options", wanted)
    return study


def _trial(study: optuna.Study, number: int, seed: int) -> FrozenTrial:
    """Return trial ``number`` of the study; draw it if it does not exist."""
    known = study.get_trials(deepcopy=False)
    if number >= len(known):
        trial_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        study.sampler = RandomSampler(seed=trial_seed)
        study.ask(SPACE)
        known = study.get_trials(deepcopy=False)
    return known[number]


def _train(data: Path, out: Path, recipe: Recipe, seed: int) -> dict[str, float]:
    """Train the recipe, and return the validation metrics of its best epoch."""
    split, cache = out / SPLIT_NAME, out / "cache"
    folder = _folder(out, recipe.name)
    run = Run.create(folder, recipe, data=data, split=split, seed=seed, cache=cache)
    keras.backend.clear_session()
    train_member(run, recipe.members[0])
    for weights in folder.glob("*/*.weights.h5"):  # the checkpoints of a finished training
        weights.unlink()
    return _best_metrics(folder)


def _folder(out: Path, name: str) -> Path:
    return out / "trials" / name


def _best_metrics(folder: Path) -> dict[str, float]:
    """Return the validation metrics of a trial's best epoch, and the total time in seconds."""
    history = read_state(folder / _MEMBER).history
    best = min(history, key=lambda epoch: epoch["loss"])
    return {name: best[name] for name in _METRICS} | {"seconds": sum(epoch["seconds"] for epoch in history)}


def _write_table(out: Path, study: optuna.Study) -> None:
    """Write ``trials.csv`` with one line per trial, the best first and failed ones last."""
    rows = []
    for trial in study.get_trials(deepcopy=False):
        complete = trial.state is TrialState.COMPLETE
        metrics = _best_metrics(_folder(out, _name(trial.number))) if complete else {}
        rows.append({"trial": trial.number, "state": trial.state.name.lower(), **metrics, **trial.params})
    rows.sort(key=lambda row: (row.get("loss", math.inf), row["trial"]))
    with (out / "trials.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ("trial", "state", *_METRICS, "seconds", *SPACE), restval="")
        writer.writeheader()
        writer.writerows(rows)


def _docstring(out: Path, best: FrozenTrial, finished: int) -> str:
    return (
        f"The best of {finished} networks from scratch, found by random search.\n\n"
        f"    python -m training run --recipe {(out / 'best.py').as_posix()} --data DIR --out runs/NAME\n\n"
        f"Trial {best.number}: cross entropy {best.value:.4f} on validation data, in its best epoch. "
        "This value is\n"
        "too optimistic, because it selected the network; evaluate the network on the test part."
    )
