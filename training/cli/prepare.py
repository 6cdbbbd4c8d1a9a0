"""``prepare``: check the data set, describe it, and split it."""

import argparse
from typing import Any

from training.cli.options import data_options, out_options, positive


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "prepare",
        parents=[data_options(), out_options()],
        help="check the data set, find near-duplicates, and split it by lesion, once or into folds",
    )
    parser.add_argument(
        "--validation",
        type=float,
        default=0.15,
        help="share of the validation images, or from 1 their number (default 0.15)",
    )
    parser.add_argument(
        "--test",
        type=float,
        default=0.15,
        help="share of the test images, or from 1 their number (default 0.15)",
    )
    parser.add_argument(
        "--split-by",
        choices=("lesion", "image"),
        default="lesion",
        help="image allows images of one lesion in several parts, so that all metrics are too high; use it "
        "only to measure this leakage, or to compare with systems that split so (default %(default)s)",
    )
    parser.add_argument(
        "--folds",
        type=positive,
        metavar="K",
        help="write fold-1.csv to fold-K.csv for cross-validation instead of split.csv; each image is in the "
        "test part of one fold",
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
