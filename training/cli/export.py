"""``export``: write a run's bundle, and compare it with Keras."""

import argparse
import os
from typing import Any

from training.cli.options import exporting_options, external_tests, open_run, out_options


def add(commands: Any) -> None:
    """Add the command's parser."""
    commands.add_parser(
        "export",
        parents=[out_options(), exporting_options()],
        help="write the bundle, and compare it with Keras",
    ).set_defaults(command=export)


def export(options: argparse.Namespace) -> None:
    """Export the run in ``--out``."""
    run, external = open_run(options), external_tests(options)
    check_backend()
    from training.evaluation.evaluate import load_networks, read_fitted
    from training.export.bundle import write_bundle

    name = options.name or run.recipe.name.replace("_", "-").replace("/", "-")
    folder = options.bundle or run.folder / "bundle"
    write_bundle(
        run,
        load_networks(run),
        read_fitted(run),
        name=name,
        version=options.model_version,
        folder=folder,
        external_tests=external,
    )
    print(f"bundle written to {folder}; serve it with DERMASERVE_BUNDLE={folder}")


def check_backend() -> None:
    """Raise RecipeError if the backend cannot export, before hours of training."""
    from training.recipe import RecipeError

    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise RecipeError(
            f"export needs TensorFlow, but KERAS_BACKEND is {backend}; use it for `train` and `evaluate`, "
            "then run `export` with KERAS_BACKEND=tensorflow"
        )
