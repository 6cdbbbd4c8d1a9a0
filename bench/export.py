"""The straightforward tf2onnx export of a recipe's networks, for want of a trained run with random weights.

    python -m bench.export --out plain.onnx

All members at the recipe's input size, and the graph as tf2onnx leaves it: what its user would have. Random
weights cost what trained ones do; its answers mean nothing. Needs the training environment.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

RECIPE = "ham10000_ensemble"

_CLASSES = 7
_FITTED_ON = 256  # made-up feature vectors


def export_plain(recipe_name: str, path: Path) -> None:
    """Write the graph as ``path``.

    Raises:
        RecipeError: there is no such recipe.
    """
    # Imported here: TensorFlow takes seconds, and --help should not.
    from training.calibration.combination import Combination
    from training.calibration.fit import Calibration
    from training.calibration.out_of_distribution import OutOfDistribution
    from training.catalogue import load_recipe
    from training.export.graph import export_onnx
    from training.network.build import FEATURES, build_network

    recipe = load_recipe(recipe_name)
    members = [replace(member, starting_weights="none") for member in recipe.members]
    networks = [
        build_network(member, _CLASSES, size=recipe.size, channels=recipe.channels) for member in members
    ]
    widths = [int(network.get_layer(FEATURES).output.shape[-1]) for network in networks]
    features = np.random.default_rng(1).normal(1, 1, (_FITTED_ON, sum(widths)))
    count = len(members)
    calibration = Calibration(
        combination=Combination("mean", (1 / count,) * count, ((),) * count),
        temperatures=(1.0,) * count,
        log_prior_shifts=((0.0,) * _CLASSES,) * count,
        prior=(1 / _CLASSES,) * _CLASSES,
        tau=0.0,
        threshold=0.5,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    outliers = OutOfDistribution.fit(features, widths)
    export_onnx(networks, calibration, outliers, size=recipe.size, channels=recipe.channels, path=path)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.export", description=__doc__)
    parser.add_argument("--recipe", default=RECIPE, help="default %(default)s")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    export_plain(options.recipe, options.out)


if __name__ == "__main__":
    main()
