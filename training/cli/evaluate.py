"""``evaluate``: calibrate and evaluate a run, or evaluate a bundle."""

import argparse
from pathlib import Path
from typing import Any

from training.cli.options import open_run, scoring_options
from training.markdown import format_metric

_SHOWN = (
    "balanced_accuracy",
    "accuracy_rule",
    "accuracy_argmax",
    "macro_f1",
    "malignancy_sensitivity",
    "malignancy_specificity",
    "malignancy_auc",
    "ece",
)


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "evaluate",
        parents=[scoring_options()],
        help="calibrate a run and evaluate it on the test part; or evaluate a bundle",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="DIR", help="the run folder")
    what.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="evaluate this bundle on the test part of its own split; needs --data",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="the data set, for --bundle")
    parser.add_argument(
        "--renew",
        metavar="VERSION",
        help="for --bundle: refit its prediction sets, and replace it by this version of the model",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="for --bundle: evaluate it on these images from outside its data set instead",
    )
    parser.add_argument(
        "--truth",
        type=Path,
        metavar="CSV",
        help="for --images: the diagnoses, in the layout of the ISIC 2018 challenge",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        default=Path("runs/external"),
        help="for --images: folder for the report (default: runs/external)",
    )
    parser.set_defaults(command=evaluate)


def evaluate(options: argparse.Namespace) -> None:
    """Evaluate a run or a bundle, and print the metrics."""
    if getattr(options, "bundle", None) and not options.out:
        _evaluate_bundle(options)
    else:
        evaluate_run(options)


def evaluate_run(options: argparse.Namespace) -> None:
    """Evaluate the run in ``--out``."""
    run = open_run(options)
    from training.data.split import BY_IMAGE_WARNING
    from training.evaluation.evaluate import evaluate, load_networks

    metrics = evaluate(run, load_networks(run), resamples=options.resamples)
    print_metrics(metrics["test"], metrics["prediction_sets"]["measured"])
    _print_metadata(metrics)
    _print_as_published(metrics["as_published"])
    if metrics["split_by"] == "image":
        print(f"WARNING: {BY_IMAGE_WARNING}")
    print(f"report: {run.folder / 'evaluation' / 'report.md'}")


def _evaluate_bundle(options: argparse.Namespace) -> None:
    from training.export.rescore import rescore
    from training.recipe import RecipeError

    if options.images or options.truth:
        _evaluate_external(options)
        return
    if not options.data:
        raise RecipeError("--bundle needs --data, the folder of its data set")
    if options.renew:
        from training.export.renew import renew

        renew(options.bundle, options.data, options.renew, resamples=options.resamples)
    metrics = rescore(options.bundle, options.data, resamples=options.resamples)
    print_metrics(metrics["test"], metrics["prediction_sets"]["measured"])
    _print_metadata(metrics)
    _print_as_published(metrics["as_published"])


def _evaluate_external(options: argparse.Namespace) -> None:
    from training.export.external import score_external
    from training.recipe import RecipeError

    if not (options.images and options.truth) or options.renew:
        raise RecipeError("--images needs --truth and vice versa; neither can be combined with --renew")
    found = score_external(
        options.bundle,
        options.images,
        options.truth,
        options.report,
        data=options.data,
        resamples=options.resamples,
    )
    print_metrics(found.metrics["test"], found.metrics["prediction_sets"]["measured"])
    _print_as_published(found.metrics["as_published"])
    print(f"{found.metrics['images']} images scored, {len(found.excluded)} left out")
    if options.data is None:
        print("near-duplicates of training images were not searched for; this requires --data")
    print(f"report: {options.report / 'report.md'}")


def _print_metadata(metrics: dict[str, Any]) -> None:
    """Print the metrics with age, sex and site, if the predictions use them."""
    if found := metrics.get("metadata"):
        print(f"with age, sex and site ({found['images']} images):")
        print_metrics(found["metrics"], found["prediction_sets"]["measured"])


def _print_as_published(found: dict[str, Any]) -> None:
    """Print the metrics of the most probable class that the published systems state."""
    print("as the published systems score (most probable class; malignant from 0.5):")
    for task, metrics in found.items():
        for name, metric in metrics.items():
            print(f"{task + ' ' + name:26} {format_metric(metric)}")


def print_metrics(test: dict[str, dict[str, float]], coverage: dict[str, dict[str, float]]) -> None:
    """Print the main metrics of an evaluation with their intervals."""
    shown = [(name, test[name]) for name in _SHOWN if name in test]
    shown += [
        (f"coverage of sets, {name}", coverage[name]) for name in ("overall", "mel") if name in coverage
    ]
    for name, metric in shown:
        print(f"{name:26} {format_metric(metric)}")
