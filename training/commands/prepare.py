"""``prepare``: check the data, describe it, split it by lesion."""

import argparse
from typing import Any

from training.commands.options import data_options, out_options


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "prepare",
        parents=[data_options(), out_options()],
        help="check the data, describe it, split it by lesion",
    )
    parser.add_argument("--validation", type=float, default=0.15, help="share of the images (default 0.15)")
    parser.add_argument("--test", type=float, default=0.15, help="share of the images (default 0.15)")
    parser.set_defaults(command=_prepare)


def _prepare(options: argparse.Namespace) -> None:
    from training.prepare import SPLIT_NAME, prepare

    prepare(options.data, options.out, seed=options.seed, validation=options.validation, test=options.test)
    print(f"{options.out / SPLIT_NAME}, data.md and data.png written")
