"""The command line: ``python -m training COMMAND``."""

import argparse
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import DermaserveError

if TYPE_CHECKING:
    from training.run import Run

_DESCRIPTION = """\
Train, evaluate and export skin-lesion classifiers on HAM10000.

  python -m training run --data HAM10000 --out runs/first

does everything: it checks and splits the data, trains every member of the recipe, calibrates on
validation, scores the test part once, and writes a bundle that the service can load. The single
steps are commands of their own. Stopped at any moment, the same command goes on where it was.
KERAS_BACKEND chooses tensorflow (default), jax or torch for training; export needs tensorflow.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 on success, 2 on an error that the message explains."""
    parser = _parser()
    options = parser.parse_args(arguments)
    # What TensorFlow prints at import, about devices it does not find, is of no use here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        options.command(options)
    except DermaserveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last finished epoch", file=sys.stderr)
        return 130
    return 0


def _prepare(options: argparse.Namespace) -> None:
    from training.prepare import SPLIT_NAME, prepare

    prepare(options.data, options.out, seed=options.seed, validation=options.validation, test=options.test)
    print(f"{options.out / SPLIT_NAME}, data.md and data.png written")


def _train(options: argparse.Namespace) -> None:
    # Imported late, as in every command: neither `--help` nor a wrong option waits for Keras.
    from training.data import CODES
    from training.recipe import adjust, load_recipe
    from training.run import Run

    recipe = adjust(
        load_recipe(options.recipe),
        loss=options.loss,
        image_size=options.image_size,
        max_epochs=options.max_epochs,
        batch_size=options.batch_size,
        epoch_size=options.epoch_size,
        starting_weights=dict(options.starting_weights or ()),
        feature_scale=dict(options.feature_scale or ()),
    )
    split = options.split or options.out / "split.csv"
    cache = options.cache or options.out / "cache"
    run = Run.create(options.out, recipe, data=options.data, split=split, seed=options.seed, cache=cache)
    from training.loop import train_member
    from training.plots import plot_curves

    labels = {part: run.labels(part) for part in ("train", "validation")}
    for name in getattr(options, "member", None) or [member.name for member in recipe.members]:
        member, folder = recipe.member(name), run.folder / name
        train_member(recipe, member, run.pixels, labels, len(CODES), folder, run.seed)
        plot_curves(folder / "curves.png", folder / "history.csv")


def _evaluate(options: argparse.Namespace) -> None:
    run = _open(options)
    from training.evaluate import evaluate, load_networks

    _print_metrics(evaluate(run, load_networks(run), resamples=options.resamples), run)


def _export(options: argparse.Namespace) -> None:
    run = _open(options)
    _check_export_backend()
    from training.bundling import write_bundle
    from training.evaluate import load_networks, read_calibration

    name = options.name or run.recipe.name.replace("_", "-")
    folder = options.bundle or run.folder / "bundle"
    networks = load_networks(run)
    write_bundle(
        run, networks, read_calibration(run), name=name, version=options.model_version, folder=folder
    )
    print(f"bundle written to {folder}; serve it with DERMASERVE_BUNDLE={folder}")


def _run(options: argparse.Namespace) -> None:
    from training.prepare import prepare

    _check_export_backend()
    if not options.split and not (options.out / "split.csv").is_file():
        prepare(options.data, options.out, seed=options.seed)
    _train(options)
    _evaluate(options)
    _export(options)


def _recipes(options: argparse.Namespace) -> None:
    import importlib

    from training.recipe import recipe_names

    for name in recipe_names():
        summary = (importlib.import_module(f"training.recipes.{name}").__doc__ or "").splitlines()[0]
        print(f"{name:20} {summary}")


def _check_export_backend() -> None:
    """Refuse before hours of training what would fail after them."""
    from training.recipe import RecipeError

    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise RecipeError(
            f"export needs TensorFlow, KERAS_BACKEND is {backend}: `train` and `evaluate` there, "
            "then `export` with KERAS_BACKEND=tensorflow"
        )


def _open(options: argparse.Namespace) -> "Run":
    from training.run import Run

    return Run.open(options.out)


def _print_metrics(metrics: dict[str, dict[str, dict[str, float]]], run: "Run") -> None:
    for name in ("balanced_accuracy", "accuracy", "macro_f1", "malignancy_sensitivity",
                 "malignancy_specificity", "malignancy_auc", "ece"):  # fmt: skip
        if name in metrics["test"]:
            figure = metrics["test"][name]
            print(f"{name:24} {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]")
    print(f"report: {run.folder / 'evaluation' / 'report.md'}")


def _member_weights(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not value:
        raise argparse.ArgumentTypeError(f"expected MEMBER=imagenet|none|FILE, got {text!r}")
    return name, value


def _member_scale(text: str) -> tuple[str, float]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected MEMBER=FACTOR, got {text!r}")
    return name, _positive_number(value)


def _positive_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with HAM10000_metadata.csv and, anywhere below it, the images",
    )
    data.add_argument(
        "--seed", type=int, default=0, help="of split, initialisation, draws and augmentation (default 0)"
    )
    out = argparse.ArgumentParser(add_help=False)
    out.add_argument("--out", type=Path, required=True, metavar="DIR", help="the run folder")

    training = argparse.ArgumentParser(add_help=False)
    training.add_argument(
        "--recipe",
        default="ham10000_ensemble",
        help="a name from `python -m training recipes`, or a recipe file of your own (default %(default)s)",
    )
    training.add_argument(
        "--split", type=Path, metavar="CSV", help="a split file of `prepare` (default OUT/split.csv)"
    )
    training.add_argument(
        "--starting-weights",
        action="append",
        type=_member_weights,
        metavar="MEMBER=WHERE",
        help="imagenet (downloaded by Keras), none, or a .weights.h5 file of the backbone; may be repeated",
    )
    training.add_argument(
        "--feature-scale",
        action="append",
        type=_member_scale,
        metavar="MEMBER=FACTOR",
        help="factor on a backbone's features, for starting weights of unusual scale; may be repeated",
    )
    training.add_argument(
        "--loss",
        choices=("focal", "cross_entropy"),
        help="focal: gamma 1.5 and class weights inverse to frequency, as the deck; "
        "cross_entropy: plain; both draw the data as it is; default: as the recipe says",
    )
    training.add_argument(
        "--image-size", type=_positive, metavar="PIXELS", help="input size of the model and of every phase"
    )
    training.add_argument(
        "--max-epochs", type=_positive, metavar="N", help="upper bound on the epochs of each phase"
    )
    training.add_argument(
        "--batch-size", type=_positive, metavar="N", help="images per step (default: the recipe's)"
    )
    training.add_argument(
        "--epoch-size",
        type=_positive_number,
        metavar="SHARE",
        help="draws of an epoch, as a multiple of the number of training images",
    )
    training.add_argument(
        "--cache", type=Path, metavar="DIR", help="folder for decoded images (default OUT/cache)"
    )

    scoring = argparse.ArgumentParser(add_help=False)
    scoring.add_argument(
        "--resamples", type=_positive, default=1000, help="of the bootstrap (default %(default)s)"
    )

    exporting = argparse.ArgumentParser(add_help=False)
    exporting.add_argument(
        "--bundle", type=Path, metavar="DIR", help="where the bundle goes, replaced (default OUT/bundle)"
    )
    exporting.add_argument("--name", help="of the model (default: the recipe's)")
    exporting.add_argument("--model-version", default="0.1.0", help="of the model (default %(default)s)")

    prepare = commands.add_parser(
        "prepare", parents=[data, out], help="check the data, describe it, split it by lesion"
    )
    prepare.add_argument("--validation", type=float, default=0.15, help="share of the images (default 0.15)")
    prepare.add_argument("--test", type=float, default=0.15, help="share of the images (default 0.15)")
    prepare.set_defaults(command=_prepare)
    train = commands.add_parser(
        "train", parents=[data, out, training], help="train the recipe's members, or go on with it"
    )
    train.add_argument(
        "--member", action="append", metavar="NAME", help="train only this member; may be repeated"
    )
    train.set_defaults(command=_train)
    commands.add_parser(
        "evaluate", parents=[out, scoring], help="calibrate on validation, score the test part once"
    ).set_defaults(command=_evaluate)
    commands.add_parser(
        "export", parents=[out, exporting], help="write the bundle, checked against Keras"
    ).set_defaults(command=_export)
    commands.add_parser(
        "run", parents=[data, out, training, scoring, exporting], help="all of it"
    ).set_defaults(command=_run)
    commands.add_parser("recipes", help="list the recipes").set_defaults(command=_recipes)
    return parser


if __name__ == "__main__":
    sys.exit(main())
