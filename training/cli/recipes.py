"""``recipes``: list the recipes."""

import argparse
from typing import Any


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("recipes", help="list the recipes")
    parser.add_argument("--markdown", action="store_true", help="as a page with the published figures")
    parser.set_defaults(command=_recipes)


def _recipes(options: argparse.Namespace) -> None:
    from training.catalogue import recipe_names, recipe_page, recipe_text

    if options.markdown:
        print(recipe_page(), end="")
        return
    names = recipe_names()
    for name in names:
        print(f"{name:{max(map(len, names))}}  {recipe_text(name).splitlines()[0]}")
