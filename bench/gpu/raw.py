"""The graph on the device: images per second by variant and batch size, and how right its answers are."""

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.gpu.session import Device, Runner, Variant, VariantError
from bench.spread import spread
from models.bundle import Bundle
from models.preprocess import decode
from service.decision import decide
from training.data.dataset import read_dataset
from training.data.split import read_split, rows_of

BATCHES = (1, 2, 4, 8, 16, 32, 64)

_RUNS = 20  # of a repetition
_ACCURACY_BATCH = 16


def measure_limit(
    model: onnx.ModelProto,
    images: NDArray[np.uint8],
    device: Device,
    *,
    variants: Sequence[Variant],
    batches: Sequence[int] = BATCHES,
    repetitions: int = 3,
    runs: int = _RUNS,
) -> Iterator[dict[str, Any]]:
    """One entry a variant and batch size; the variants take turns within every repetition.

    Args:
        model: the graph.
        images: uint8 ``[n, height, width, channels]``, taken in turn.
        device: where it runs.
        variants, batches: what is measured.
        repetitions, runs: how often; a figure is the median of ``repetitions`` means of ``runs`` batches.

    Yields:
        ``variant``, ``precision`` and ``batch``, and either ``error`` or ``images_per_second``, seconds of
        a batch, and of its inference without the copies to the device and back; with their spread.
    """
    for batch in batches:
        pixels = images[np.arange(batch) % len(images)]
        runners: dict[Variant, Runner] = {}
        for variant in variants:
            try:
                runners[variant] = Runner(model, variant, batch, device)
            except VariantError as error:
                yield _head(variant, batch) | {"error": str(error)}
        found: dict[Variant, list[tuple[float, float]]] = {variant: [] for variant in runners}
        for _ in range(repetitions):
            for variant, runner in runners.items():
                timings = [runner.run(pixels)[1] for _ in range(runs)]
                mean = np.mean(timings, axis=0)
                found[variant].append((float(mean[0]), float(mean[1])))
        for variant, times in found.items():
            yield _head(variant, batch) | {
                "images_per_second": spread([batch / total for total, _ in times])._asdict(),
                "seconds": spread([total for total, _ in times])._asdict(),
                "inference_seconds": spread([inference for _, inference in times])._asdict(),
            }
        runners.clear()
        gc.collect()  # the sessions' memory on the device, before those of the next size


def probabilities(
    model: onnx.ModelProto, images: NDArray[np.uint8], variant: Variant, device: Device
) -> NDArray[np.float32]:
    """Float32 ``[n, classes]`` of uint8 images ``[n, height, width, channels]``.

    Raises:
        VariantError: the variant is not possible here.
    """
    runner = Runner(model, variant, _ACCURACY_BATCH, device)
    parts = []
    for start in range(0, len(images), _ACCURACY_BATCH):
        chunk = images[start : start + _ACCURACY_BATCH]
        full = np.pad(chunk, [(0, _ACCURACY_BATCH - len(chunk)), (0, 0), (0, 0), (0, 0)])
        parts.append(runner.run(full)[0]["probabilities"][: len(chunk)])
    return np.concatenate(parts)


def measure_accuracy(
    bundle: Bundle,
    model: onnx.ModelProto,
    images: NDArray[np.uint8],
    labels: Sequence[str] | None,
    device: Device,
    *,
    variants: Sequence[Variant],
) -> Iterator[dict[str, Any]]:
    """How far each variant's probabilities are from those of float32 on the CPU.

    Args:
        bundle: for the decision rule.
        model: its graph.
        images: uint8 ``[n, height, width, channels]``.
        labels: codes of their diagnoses, where they are known.
        device: where the variants run.
        variants: what is compared.

    Yields:
        ``variant`` and either ``error`` or ``largest_difference`` of a probability, the share of images with
        the ``same_label`` and, with labels, ``balanced_accuracy`` and that of the CPU as ``reference``.
    """
    reference = probabilities(model, images, Variant("fp32"), "cpu")
    expected = _decided(bundle, reference)
    for variant in variants:
        try:
            found = probabilities(model, images, variant, device)
        except VariantError as error:
            yield {"variant": str(variant), "error": str(error)}
            continue
        decided = _decided(bundle, found)
        entry = {
            "variant": str(variant),
            "images": len(images),
            "largest_difference": float(np.abs(found - reference).max()),
            "same_label": float(np.mean(decided == expected)),
        }
        if labels is not None:
            entry["balanced_accuracy"] = _balanced_accuracy(decided, np.array(labels))
            entry["reference"] = _balanced_accuracy(expected, np.array(labels))
        yield entry


def validation_images(bundle: Bundle, data: Path) -> tuple[NDArray[np.uint8], list[str]]:
    """The images of the bundle's validation split, as the graph reads them, and their diagnoses."""
    rows = read_dataset(data)
    rows = rows_of(rows, read_split(bundle.path / "split.csv", rows), "validation")
    return read_pixels(bundle, [row.path.read_bytes() for row in rows]), [row.dx for row in rows]


def read_pixels(bundle: Bundle, files: Sequence[bytes]) -> NDArray[np.uint8]:
    """Image files as the graph reads them, uint8 ``[n, height, width, channels]``."""
    spec = bundle.manifest.input
    return np.stack([decode(f, height=spec.height, width=spec.width, color=spec.color).pixels for f in files])


def _decided(bundle: Bundle, rows: NDArray[np.float32]) -> NDArray[np.str_]:
    return np.array([decide(bundle.manifest, row).label for row in rows])


def _balanced_accuracy(decided: NDArray[np.str_], labels: NDArray[np.str_]) -> float:
    return float(np.mean([np.mean(decided[labels == label] == label) for label in np.unique(labels)]))


def _head(variant: Variant, batch: int) -> dict[str, Any]:
    return {"variant": str(variant), "precision": variant.precision, "batch": batch}
