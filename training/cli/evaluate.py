"""``evaluate``: calibrate on validation and score the test part of a run; or score a bundle again."""

import argparse
from pathlib import Path
from typing import Any

from training.cli.options import open_run, scoring_options

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
        help="calibrate on validation and score the test part; or score a bundle again",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="DIR", help="the run folder")
    what.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="a bundle, scored on the test part of its own split; needs --data",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="the data set, for --bundle")
    parser.add_argument(
        "--renew",
        metavar="VERSION",
        help="for --bundle: fit its prediction sets anew, and write it again as this version of the model",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="for --bundle: images from outside its data set, to be scored in place of its test part",
    )
    parser.add_argument(
        "--truth",
        type=Path,
        metavar="CSV",
        help="for --images: their diagnoses, in the layout of the ISIC 2018 challenge",
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
    """Evaluate a run or a bundle and print the figures."""
    if getattr(options, "bundle", None) and not options.out:
        _evaluate_bundle(options)
    else:
        evaluate_run(options)


def evaluate_run(options: argparse.Namespace) -> None:
    """Evaluate the run in ``--out``."""
    run = open_run(options)
    from training.evaluation.evaluate import evaluate, load_networks

    metrics = evaluate(run, load_networks(run), resamples=options.resamples)
    print_metrics(metrics["test"], metrics["prediction_sets"]["measured"])
    _print_metadata(metrics)
    print(f"report: {run.folder / 'evaluation' / 'report.md'}")


def _evaluate_bundle(options: argparse.Namespace) -> None:
    from training.export.rescore import rescore
    from training.recipe import RecipeError

    if options.images or options.truth:
        _evaluate_external(options)
        return
    if not options.data:
        raise RecipeError("--bundle needs --data, the folder of the data set it was trained on")
    if options.renew:
        from training.export.renew import renew

        renew(options.bundle, options.data, options.renew, resamples=options.resamples)
    metrics = rescore(options.bundle, options.data, resamples=options.resamples)
    print_metrics(metrics["test"], metrics["prediction_sets"]["measured"])
    _print_metadata(metrics)


def _evaluate_external(options: argparse.Namespace) -> None:
    from training.export.external import score_external
    from training.recipe import RecipeError

    if not (options.images and options.truth) or options.renew:
        raise RecipeError("--images and --truth belong together, and do not go with --renew")
    found = score_external(
        options.bundle,
        options.images,
        options.truth,
        options.report,
        data=options.data,
        resamples=options.resamples,
    )
    print_metrics(found.metrics["test"], found.metrics["prediction_sets"]["measured"])
    print(f"{found.metrics['images']} images scored, {len(found.excluded)} left out")
    if options.data is None:
        print("near-duplicates of the training images were not looked for: --data names the data set")
    print(f"report: {options.report / 'report.md'}")


def _print_metadata(metrics: dict[str, Any]) -> None:
    """Print the metrics with age, sex and site, if the predictions use them."""
    if found := metrics.get("metadata"):
        print(f"with age, sex and site ({found['images']} images):")
        print_metrics(found["metrics"], found["prediction_sets"]["measured"])


def print_metrics(test: dict[str, dict[str, float]], coverage: dict[str, dict[str, float]]) -> None:
    """The headlines of an evaluation, with their intervals."""
    shown = [(name, test[name]) for name in _SHOWN if name in test]
    shown += [
        (f"coverage of sets, {name}", coverage[name]) for name in ("overall", "mel") if name in coverage
    ]
    for name, figure in shown:
        print(f"{name:26} {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]")
