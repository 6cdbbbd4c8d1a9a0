"""``run``: prepare, train, evaluate and export in one command."""

import argparse
from typing import Any

from training.cli.evaluate import evaluate_run
from training.cli.export import check_backend, export
from training.cli.options import (
    data_options,
    exporting_options,
    out_options,
    scoring_options,
    training_options,
)
from training.cli.train import train


def add(commands: Any) -> None:
    """Add the command's parser."""
    parents = [data_options(), out_options(), training_options(), scoring_options(), exporting_options()]
    parser = commands.add_parser("run", parents=parents, help="prepare, train, evaluate and export")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> None:
    from training.data.prepare import prepare

    check_backend()
    if not options.split and not (options.out / "split.csv").is_file():
        prepare(options.data, options.out, seed=options.seed)
    train(options)
    evaluate_run(options)
    export(options)
