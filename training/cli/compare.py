"""``compare``: compare evaluated runs on one page."""

import argparse
from pathlib import Path
from typing import Any

from training.cli.options import scoring_options


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "compare",
        parents=[scoring_options()],
        help="compare evaluated runs: metrics with intervals, paired differences, plots",
        description="The page contains test images; the data set's terms apply to it. The tables are written "
        "to standard output and to a .md file beside the page.",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="the folder of an evaluated run")
    parser.add_argument("--out", type=Path, required=True, metavar="HTML", help="the page; it is replaced")
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="RUN",
        help="compare all runs with this one (default: compare all pairs with the same test images)",
    )
    parser.set_defaults(command=compare)


def compare(options: argparse.Namespace) -> None:
    """Write the page and print the tables."""
    from training.evaluation.comparison.report import compare

    print(compare(options.runs, options.out, baseline=options.baseline, resamples=options.resamples))
    print(f"page: {options.out}")
