"""Options that several commands share."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.recipe import Recipe
    from training.run import Run


def data_options() -> argparse.ArgumentParser:
    """Return the options of the data set and the seed."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with HAM10000_metadata.csv and with the images, which may be in folders below it",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of split, initialisation, sampling and augmentation (default 0)",
    )
    return parser


def out_options() -> argparse.ArgumentParser:
    """Return the option of the run folder."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the run folder")
    return parser


def training_options() -> argparse.ArgumentParser:
    """Return the options of the recipe and the training."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--recipe",
        default="ham10000_ensemble",
        help="a name from `python -m training recipes`, or your own recipe file (default %(default)s)",
    )
    parser.add_argument(
        "--split", type=Path, metavar="CSV", help="a split file from `prepare` (default OUT/split.csv)"
    )
    parser.add_argument(
        "--starting-weights",
        action="append",
        type=_member_weights,
        metavar="MEMBER=WHERE",
        help="imagenet (downloaded by Keras), none, or a .weights.h5 file of the backbone; may be repeated",
    )
    parser.add_argument(
        "--feature-scale",
        action="append",
        type=_member_scale,
        metavar="MEMBER=FACTOR",
        help="factor on a backbone's features, for starting weights with an unusual scale; may be repeated",
    )
    parser.add_argument(
        "--trained",
        action="append",
        type=_member_run,
        metavar="MEMBER=RUN",
        help="take this trained member from another run with the same split; may be repeated",
    )
    parser.add_argument(
        "--loss",
        choices=("focal", "cross_entropy"),
        help="focal: gamma 1.5 and class weights inverse to frequency; cross_entropy: unweighted; both "
        "sample classes as in the data (default: the recipe's loss and sampling)",
    )
    parser.add_argument(
        "--color", choices=("rgb", "grey"), help="colour of the model's input (default: the recipe's)"
    )
    parser.add_argument(
        "--image-size",
        type=positive,
        metavar="PIXELS",
        help="side of the images in the model and in every phase",
    )
    parser.add_argument(
        "--max-epochs", type=positive, metavar="N", help="upper bound on the epochs of each phase"
    )
    parser.add_argument(
        "--batch-size", type=positive, metavar="N", help="images per step (default: the recipe's)"
    )
    parser.add_argument(
        "--epoch-size",
        type=positive_number,
        metavar="SHARE",
        help="number of draws per epoch, as a multiple of the number of training images",
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="folder for decoded images (default OUT/cache)"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        default="float32",
        help="precision of the training; the finished network is float32 (default %(default)s)",
    )
    parser.add_argument(
        "--devices",
        type=positive,
        default=1,
        metavar="N",
        help="number of devices that share each batch; needs KERAS_BACKEND=jax (default 1)",
    )
    return parser


def scoring_options() -> argparse.ArgumentParser:
    """Return the option of the bootstrap."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--resamples", type=positive, default=1000, help="number of bootstrap resamples (default %(default)s)"
    )
    return parser


def exporting_options() -> argparse.ArgumentParser:
    """Return the options of the bundle."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR", help="the bundle's folder; it is replaced (default OUT/bundle)"
    )
    parser.add_argument("--name", help="name of the model (default: the recipe's)")
    parser.add_argument("--model-version", default="0.1.0", help="version of the model (default %(default)s)")
    parser.add_argument(
        "--external-tests",
        type=Path,
        metavar="FILE",
        help="Markdown for the model card: tests of this model and its earlier versions on other data; the "
        "first line, a title, is left out",
    )
    return parser


def external_tests(options: argparse.Namespace) -> str:
    """Return the text of ``--external-tests`` without its title, its headings one level lower.

    Raises:
        OSError: the file cannot be read.
    """
    if options.external_tests is None:
        return ""
    lines = options.external_tests.read_text(encoding="utf-8").splitlines()[1:]
    return "\n".join("#" + line if line.startswith("##") else line for line in lines)


def chosen_recipe(options: argparse.Namespace) -> "Recipe":
    """Return the recipe with the changes that the options state."""
    from training.catalogue import load_recipe
    from training.recipe import adjust

    return adjust(
        load_recipe(options.recipe),
        loss=options.loss,
        color=options.color,
        image_size=options.image_size,
        max_epochs=options.max_epochs,
        batch_size=options.batch_size,
        epoch_size=options.epoch_size,
        starting_weights=dict(options.starting_weights or ()),
        feature_scale=dict(options.feature_scale or ()),
    )


def open_run(options: argparse.Namespace) -> "Run":
    """Open the run in ``--out``."""
    from training.run import Run

    return Run.open(options.out)


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return value


def positive_number(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _member_weights(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not value:
        raise argparse.ArgumentTypeError(f"expected MEMBER=imagenet|none|FILE, got {text!r}")
    return name, value


def _member_scale(text: str) -> tuple[str, float]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected MEMBER=FACTOR, got {text!r}")
    return name, positive_number(value)


def _member_run(text: str) -> tuple[str, Path]:
    name, separator, value = text.partition("=")
    if not separator or not value:
        raise argparse.ArgumentTypeError(f"expected MEMBER=RUN, got {text!r}")
    return name, Path(value)
