"""``recipes``: list the recipes."""

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("recipes", help="list the recipes")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--markdown", action="store_true", help="print docs/recipes.md, with the published metrics"
    )
    what.add_argument(
        "--measured",
        type=Path,
        metavar="RUN",
        help="print the metrics of an evaluated run as Python, for `measured` of its recipe's entry",
    )
    parser.add_argument(
        "--command",
        dest="trained_with",
        metavar="TEXT",
        help="for --measured: the command that trained the run, with placeholders for folders",
    )
    parser.set_defaults(command=_recipes)


def _recipes(options: argparse.Namespace) -> None:
    from training.catalogue import CATALOGUE, catalogue_page
    from training.recipe import RecipeError

    if bool(options.measured) != bool(options.trained_with):
        raise RecipeError("--measured needs --command and vice versa")
    if options.measured:
        from training.evaluation.measured import measured
        from training.run import Run

        print(measured(Run.open(options.measured), options.trained_with).source())
        return
    if options.markdown:
        print(catalogue_page(), end="")
        return
    for name, entry in CATALOGUE.items():
        print(f"{name:{max(map(len, CATALOGUE))}}  {entry.summary}")
