"""``train``: train the recipe's members, or go on with it."""

import argparse
import shutil
from typing import Any

from training.commands.options import chosen_recipe, data_options, out_options, training_options


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "train",
        parents=[data_options(), out_options(), training_options()],
        help="train the recipe's members, or go on with it",
    )
    parser.add_argument(
        "--member", action="append", metavar="NAME", help="train only this member; may be repeated"
    )
    parser.set_defaults(command=train)


def train(options: argparse.Namespace) -> None:
    """Train what the options name."""
    from training.devices import use_devices
    from training.run import Run

    recipe = chosen_recipe(options)
    split = options.split or options.out / "split.csv"
    cache = options.cache or options.out / "cache"
    run = Run.create(options.out, recipe, data=options.data, split=split, seed=options.seed, cache=cache)
    for name, other in options.trained or ():
        _take(run, name, Run.open(other))
    use_devices(options.devices)
    from training.loop import train_member
    from training.plots import plot_curves

    for name in getattr(options, "member", None) or [member.name for member in recipe.members]:
        train_member(run, recipe.member(name), precision=options.precision)
        plot_curves(run.folder / name / "curves.png", run.folder / name / "history.csv")


def _take(run: Any, name: str, other: Any) -> None:
    """Copy a finished member of ``other``, which must be the same member of the same split."""
    from training.recipe import RecipeError
    from training.split import read_split

    same = all(
        [
            run.recipe.member(name).backbone == other.recipe.member(name).backbone,
            run.recipe.member(name).classes == other.recipe.member(name).classes,
            (run.recipe.task, run.recipe.sites, run.recipe.size, run.recipe.color)
            == (other.recipe.task, other.recipe.sites, other.recipe.size, other.recipe.color),
            read_split(run.folder / "split.csv", run.rows)
            == read_split(other.folder / "split.csv", run.rows),
        ]
    )
    if not same:
        raise RecipeError(f"{other.folder}: its {name} has another backbone, task, size, colour or split")
    source, target = other.folder / name, run.folder / name
    if not (source / "network.keras").is_file():
        raise RecipeError(f"{source}: not trained to its end")
    if not (target / "network.keras").is_file():
        target.mkdir(exist_ok=True)
        for file in ("history.csv", "network.keras"):  # the network last: it is what says "finished"
            shutil.copy(source / file, target / file)
