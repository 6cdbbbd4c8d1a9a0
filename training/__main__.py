"""The command line: ``python -m training COMMAND``."""

import argparse
import os
import sys

from models.errors import DermaserveError
from training.cli import compare, crossvalidate, evaluate, export, prepare, recipes, run, search, train

_DESCRIPTION = """\
Train, evaluate and export skin-lesion classifiers on HAM10000.

  python -m training run --data HAM10000 --out runs/first

does everything: it checks and splits the data, trains every member of the recipe, calibrates on
validation, scores the test part, and writes a bundle that the service can load. The single
steps are commands of their own. If a command is stopped, the same command continues it.
KERAS_BACKEND chooses tensorflow (default), jax or torch for training; export needs tensorflow.
"""
_COMMANDS = (prepare, train, evaluate, export, run, crossvalidate, compare, search, recipes)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 on success, 2 on an error that the message explains."""
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.add(commands)
    options = parser.parse_args(arguments)
    # TensorFlow's messages about missing devices do not help the user.
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


if __name__ == "__main__":
    sys.exit(main())
