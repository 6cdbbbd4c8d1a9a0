"""The command line interface: ``python -m training COMMAND``."""

import argparse
import os
import sys

from models.errors import DermaserveError
from training.cli import compare, crossvalidate, evaluate, export, prepare, recipes, run, search, train

_DESCRIPTION = """\
Train, evaluate and export skin-lesion classifiers on HAM10000.

  python -m training run --data HAM10000 --out runs/first

runs all steps: it checks and splits the data, trains every member of the recipe, calibrates on the
validation part, evaluates on the test part, and writes a bundle that the service can load. Each step
is also a command of its own. To continue a stopped command, run it again.
KERAS_BACKEND selects tensorflow (default), jax or torch for training; export needs tensorflow.
"""
_COMMANDS = (prepare, train, evaluate, export, run, crossvalidate, compare, search, recipes)


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 on success, 2 on an error (printed to standard error), 130 on Ctrl-C.
    """
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.add(commands)
    options = parser.parse_args(arguments)
    # Hides TensorFlow's messages about missing devices.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        options.command(options)
    except DermaserveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue after the last epoch", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
