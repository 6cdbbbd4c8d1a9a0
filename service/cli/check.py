"""``check``: verify a bundle as the service would."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Manifest
from models.errors import DermaserveError
from service.cli.model import open_model, settings_for
from service.inference.loader import LoadedModel

_RUNS = 5


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "check",
        help="verify a bundle as the service would",
        description="Verify a bundle as the service would: its manifest, the sha256 of every file, the "
        "graph's inputs and outputs, and what it gives for two images. Exit status: 0 the service would "
        "serve it, 1 it would not, 2 a setting is wrong.",
    )
    parser.add_argument("bundle", nargs="?", type=Path, metavar="BUNDLE", help="default: DERMASERVE_BUNDLE")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], help="default: DERMASERVE_DEVICE")
    parser.set_defaults(command=_check)


def _check(options: argparse.Namespace) -> int:
    settings = settings_for(options)
    start = time.monotonic()
    try:
        # What a run gives, on two images, the predictor verifies itself.
        loaded = open_model(settings)
    except DermaserveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    loading = time.monotonic() - start
    one_image = _seconds_for_one(loaded)
    print(f"{settings.bundle}: fit to be served")
    for name, value in _facts(loaded).items():
        print(f"  {name:<16}{value}")
    print(f"  {'loading':<16}{loading:.2f} s; one image {1000 * one_image:.1f} ms")
    return 0


def _seconds_for_one(loaded: LoadedModel) -> float:
    """Median time of one inference of one image."""
    spec = loaded.bundle.manifest.input
    image = np.zeros((1, spec.height, spec.width, spec.channels), np.uint8)
    times = []
    for _ in range(_RUNS):
        start = time.monotonic()
        loaded.session.run(image)
        times.append(time.monotonic() - start)
    return sorted(times)[_RUNS // 2]


def _facts(loaded: LoadedModel) -> dict[str, str]:
    manifest: Manifest = loaded.bundle.manifest
    spec, point = manifest.input, manifest.operating_point
    classes = [f"{code}{'*' if code in manifest.malignant else ''}" for code in manifest.codes]
    facts = {
        "name": manifest.name,
        "version": manifest.version,
        "created": f"{manifest.created}, by revision {manifest.git_revision}",
        "manifest": f"sha256 {loaded.bundle.digest}",
        "files": f"{len(manifest.files)}, each with the sha256 that the manifest states",
        "provider": loaded.session.provider,
        "input": f"{spec.height} x {spec.width}, {spec.color}",
        "classes": f"{' '.join(classes)}  (* malignant)",
        "threshold": f"{point.threshold:g} for malignant: on validation sensitivity "
        f"{point.sensitivity.value:.3f}, specificity {point.specificity.value:.3f}",
    }
    by_class = tuple(f"_{code}" for code in manifest.codes)  # these are in the model card
    figures = [
        f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}] {name.replace('_', ' ')}"
        for name, found in manifest.metrics.items()
        if not name.endswith(by_class)
    ]
    return facts | {"figures": f"\n  {'':<16}".join(figures)}
