"""``recipes``: list the recipes."""

import argparse
from typing import Any


def add(commands: Any) -> None:
    """Add the command's parser."""
    commands.add_parser("recipes", help="list the recipes").set_defaults(command=_recipes)


def _recipes(_: argparse.Namespace) -> None:
    from training.catalogue import recipe_names, recipe_text

    names = recipe_names()
    for name in names:
        print(f"{name:{max(map(len, names))}}  {recipe_text(name).splitlines()[0]}")
