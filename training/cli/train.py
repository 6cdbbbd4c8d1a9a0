"""``train``: train the recipe's members, or continue their training."""

import argparse
import shutil
from typing import Any

from training.cli.options import chosen_recipe, data_options, out_options, training_options


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "train",
        parents=[data_options(), out_options(), training_options()],
        help="train the recipe's members, or continue their training",
    )
    parser.add_argument(
        "--member", action="append", metavar="NAME", help="train only this member; may be repeated"
    )
    parser.set_defaults(command=train)


def train(options: argparse.Namespace) -> None:
    """Train the members that the options select."""
    from training.fit.devices import use_devices
    from training.recipe import RecipeError
    from training.run import Run

    recipe = chosen_recipe(options)
    split = options.split or options.out / "split.csv"
    cache = options.cache or options.out / "cache"
    run = Run.create(options.out, recipe, data=options.data, split=split, seed=options.seed, cache=cache)
    for name, other in options.trained or ():
        _copy_member(run, name, Run.open(other))
    if recipe.batch_size % options.devices:
        raise RecipeError(
            f"--devices {options.devices}: the batch size {recipe.batch_size} is not divisible by it"
        )
    use_devices(options.devices)
    from training.fit.curves import plot_curves
    from training.fit.loop import train_member

    for name in getattr(options, "member", None) or [member.name for member in recipe.members]:
        train_member(run, recipe.member(name), precision=options.precision)
        plot_curves(run.folder / name / "curves.png", run.folder / name / "history.csv")


def _copy_member(run: Any, name: str, other: Any) -> None:
    """Copy the finished member ``name`` from the run ``other`` to ``run``.

    Phases, augmentation and starting weights may differ. Everything that changes the meaning of the network's
    outputs must be equal.

    Raises:
        RecipeError: the member differs too much, or its training is not finished.
    """
    from training.data.split import read_split
    from training.recipe import RecipeError
    from training.run import write_json

    def meaning(owner: Any) -> dict[str, Any]:
        member, recipe = owner.recipe.member(name), owner.recipe
        return {
            "backbone": member.backbone,
            "head": member.head,
            "scaling": member.scaling,
            "classes": member.classes,
            "task": recipe.task,
            "images": (recipe.sites, recipe.known_metadata),
            "image size": (recipe.size, member.image_size),
            "color": recipe.color,
            "loss and sampling": (recipe.focal_gamma, recipe.class_weight_power, recipe.sampling_power),
            "split": read_split(owner.folder / "split.csv", run.rows),
        }

    ours, theirs = meaning(run), meaning(other)
    different = [key for key in ours if ours[key] != theirs[key]]
    if different:
        raise RecipeError(f"{other.folder}: {name} cannot be used, it differs in {', '.join(different)}")
    source, target = other.folder / name, run.folder / name
    if not (source / "network.keras").is_file():
        raise RecipeError(f"{source}: training is not finished")
    if not (target / "network.keras").is_file():
        target.mkdir(exist_ok=True)
        # The network comes last, because it marks the training as finished.
        for file in ("history.csv", "network.keras"):
            shutil.copy(source / file, target / file)
    environment = run.environment
    revisions = [*environment["git_revisions"], *other.environment["git_revisions"]]
    environment["git_revisions"] = list(dict.fromkeys(revisions))
    write_json(run.folder / "environment.json", environment)
