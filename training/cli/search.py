"""``search``: random search for a network that is trained from scratch."""

import argparse
from typing import Any

from training.cli.options import data_options, out_options, positive, positive_number


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "search",
        parents=[data_options(), out_options()],
        help="random search for a network from scratch; writes OUT/best.py, a recipe, and OUT/trials.csv",
    )
    parser.add_argument(
        "--trials",
        type=positive,
        required=True,
        metavar="N",
        help="total number of trials, including earlier ones",
    )
    parser.add_argument(
        "--task", choices=("diagnosis", "malignancy"), default="malignancy", help="(default %(default)s)"
    )
    parser.add_argument(
        "--image-size",
        type=positive,
        default=64,
        metavar="PIXELS",
        help="side of the images (default %(default)s)",
    )
    parser.add_argument(
        "--max-epochs",
        type=positive,
        default=10,
        metavar="N",
        help="upper bound on the epochs of each trial (default %(default)s)",
    )
    parser.add_argument(
        "--epoch-size",
        type=positive_number,
        default=1.0,
        metavar="SHARE",
        help="number of draws per epoch, as a multiple of the number of training images "
        "(default %(default)s)",
    )
    parser.set_defaults(command=_search)


def _search(options: argparse.Namespace) -> None:
    from training.search.search import SearchOptions, search

    shared = SearchOptions(
        task=options.task,
        image_size=options.image_size,
        max_epochs=options.max_epochs,
        epoch_size=options.epoch_size,
        seed=options.seed,
    )
    best = search(options.data, options.out, shared, trials=options.trials)
    print(f"best trial: {best.name}, {options.out / 'best.py'}; all trials: {options.out / 'trials.csv'}")
