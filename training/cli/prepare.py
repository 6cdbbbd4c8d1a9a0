"""``prepare``: check the data, describe it, split it by lesion, once or into folds."""

import argparse
from typing import Any

from training.cli.options import data_options, out_options, positive


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "prepare",
        parents=[data_options(), out_options()],
        help="check the data, find duplicates, describe it, split it by lesion, once or into folds",
    )
    parser.add_argument("--validation", type=float, default=0.15, help="share of the images (default 0.15)")
    parser.add_argument("--test", type=float, default=0.15, help="share of the images (default 0.15)")
    parser.add_argument(
        "--split-by",
        choices=("lesion", "image"),
        default="lesion",
        help="image lets photographs of one lesion lie in several parts: figures from such a split "
        "are too high, and it serves only to show that (default %(default)s)",
    )
    parser.add_argument(
        "--folds",
        type=positive,
        metavar="K",
        help="write fold-1.csv to fold-K.csv for cross-validation instead of split.csv; each image is "
        "tested in one fold and validates in the one before",
    )
    parser.set_defaults(command=_prepare)


def _prepare(options: argparse.Namespace) -> None:
    from training.data.prepare import prepare

    prepared = prepare(
        options.data,
        options.out,
        seed=options.seed,
        validation=options.validation,
        test=options.test,
        by=options.split_by,
        folds=options.folds,
    )
    print(prepared.summary)
    print(f"{options.out}: {', '.join(prepared.splits)}, data.md and data.png written")
