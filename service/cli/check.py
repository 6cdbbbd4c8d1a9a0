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
        description="Verify a bundle as the service would: its manifest, the SHA-256 of every file, the "
        "graph's inputs and outputs, and its outputs for two images. Exit status: 0 if the service would "
        "serve the bundle, 1 if not, 2 if a setting is wrong.",
    )
    parser.add_argument("bundle", nargs="?", type=Path, metavar="BUNDLE", help="default: DERMASERVE_BUNDLE")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], help="default: DERMASERVE_DEVICE")
    parser.set_defaults(command=_check)


def _check(options: argparse.Namespace) -> int:
    settings = settings_for(options)
    start = time.monotonic()
    try:
        loaded = open_model(settings)
    except DermaserveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    loading = time.monotonic() - start
    inference = _inference_seconds(loaded)
    print(f"{settings.bundle}: can be served")
    for name, value in _facts(loaded).items():
        print(f"  {name:<16}{value}")
    print(f"  {'loading':<16}{loading:.2f} s; one image {1000 * inference:.1f} ms")
    return 0


def _inference_seconds(loaded: LoadedModel) -> float:
    """Return the median time of an inference of one image."""
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
        "manifest": f"SHA-256 {loaded.bundle.digest}",
        "files": f"{len(manifest.files)}, each with the SHA-256 in the manifest",
        "provider": loaded.session.provider,
        "input": f"{spec.height} x {spec.width}, {spec.color}",
        "classes": f"{' '.join(classes)}  (* malignant)",
        "threshold": f"{point.threshold:g} for malignant; on validation data sensitivity "
        f"{point.sensitivity.value:.3f}, specificity {point.specificity.value:.3f}",
    }
    by_class = tuple(f"_{code}" for code in manifest.codes)  # the model card has these
    figures = [
        f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}] {name.replace('_', ' ')}"
        for name, interval in manifest.metrics.items()
        if not name.endswith(by_class)
    ]
    return facts | {"figures": f"\n  {'':<16}".join(figures)}
