"""``recipes``: list the recipes."""

import argparse
from typing import Any


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("recipes", help="list the recipes")
    parser.add_argument(
        "--markdown", action="store_true", help="print docs/recipes.md, with the published metrics"
    )
    parser.set_defaults(command=_recipes)


def _recipes(options: argparse.Namespace) -> None:
    from training.catalogue import CATALOGUE, catalogue_page

    if options.markdown:
        print(catalogue_page(), end="")
        return
    for name, entry in CATALOGUE.items():
        print(f"{name:{max(map(len, CATALOGUE))}}  {entry.summary}")
