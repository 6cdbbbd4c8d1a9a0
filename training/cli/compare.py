"""``compare``: evaluated runs side by side, on one page."""

import argparse
from pathlib import Path
from typing import Any

from training.cli.options import scoring_options


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "compare",
        parents=[scoring_options()],
        help="compare evaluated runs: figures with intervals, paired differences, pictures",
        description="The page shows test images: keep it where the data set may be. Tables go to standard "
        "output and, beside the page, to a .md file.",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="the folder of an evaluated run")
    parser.add_argument("--out", type=Path, required=True, metavar="HTML", help="the page, replaced")
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="RUN",
        help="pair all runs with this one of them (default: every two on the same test images)",
    )
    parser.set_defaults(command=compare)


def compare(options: argparse.Namespace) -> None:
    """Write the page and print the tables."""
    from training.evaluation.comparison.report import compare

    print(compare(options.runs, options.out, baseline=options.baseline, resamples=options.resamples))
    print(f"page: {options.out}")
