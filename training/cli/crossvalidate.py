"""``crossvalidate``: train and evaluate a recipe on every fold, and pool the test predictions."""

import argparse
from typing import Any

from training.cli.evaluate import evaluate_run
from training.cli.options import data_options, out_options, positive, scoring_options, training_options
from training.cli.train import train


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "crossvalidate",
        parents=[data_options(), out_options(), training_options(), scoring_options()],
        help="train and evaluate a recipe on K folds, and pool the test predictions",
        description="Trains runs in OUT/fold-1 to OUT/fold-K, and writes their pooled test predictions and "
        "metrics to OUT/out_of_fold.npz and OUT/metrics.json. To continue a stopped command, run it again.",
    )
    parser.add_argument(
        "--folds", type=positive, default=5, metavar="K", help="number of folds (default %(default)s)"
    )
    parser.set_defaults(command=crossvalidate)


def crossvalidate(options: argparse.Namespace) -> None:
    """Train and evaluate every fold, then pool their predictions and print the metrics."""
    from training.data.dataset import read_dataset
    from training.data.folds import fold_path, read_folds
    from training.data.prepare import prepare
    from training.evaluation.crossvalidate import table, write_out_of_fold
    from training.metrics.predictions import load_predictions
    from training.recipe import RecipeError

    if options.split or options.trained:
        raise RecipeError(
            "crossvalidate makes its own splits and trains every member; --split and --trained are not "
            "allowed"
        )
    numbers = range(1, options.folds + 1)
    if not any(fold_path(options.out, number).is_file() for number in numbers):
        print(prepare(options.data, options.out, seed=options.seed, folds=options.folds).summary)
    read_folds(options.out, read_dataset(options.data), folds=options.folds)
    found = []
    for number in numbers:
        print(f"fold {number} of {options.folds}", flush=True)
        folder = options.out / f"fold-{number}"
        changed = {
            "out": folder,
            "split": fold_path(options.out, number),
            "cache": options.cache or options.out / "cache",  # shared: a fold's validation is another's test
        }
        fold = argparse.Namespace(**vars(options) | changed)
        train(fold)
        evaluate_run(fold)
        found.append(load_predictions(folder / "evaluation" / "test.npz"))
    print(table(write_out_of_fold(options.out, found, resamples=options.resamples)))
