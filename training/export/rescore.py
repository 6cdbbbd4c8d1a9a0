"""Evaluates a bundle on its test part again, to check the metrics in its manifest."""

import csv
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Bundle, load_bundle
from models.errors import BundleError
from models.manifest.safeguards import PredictionSets
from models.preprocess import decode
from training.calibration.conformal import measure_prediction_sets
from training.calibration.fit import decide
from training.calibration.metadata import encode, metadata_of
from training.data.dataset import TASKS, DataError, Row, classes_of, read_dataset
from training.data.prepare import SPLIT_NAME
from training.evaluation.as_published import score_as_published
from training.evaluation.metadata import measure, with_known
from training.export.runtime import run_graph
from training.metrics.scores import Predictions, bootstrap

_CHUNK = 256
"""Number of images decoded at a time: 40 MB at 224 pixels."""


def rescore(folder: Path, data: Path, *, resamples: int = 1000) -> dict[str, Any]:
    """Evaluate the bundle in ``folder`` on the test images of its split, which are in ``data``.

    The predictions come from ``model.onnx``, with images decoded as in the service. The metrics equal those
    of the manifest unless something has changed.

    Returns:
        ``test``, ``as_published``, ``prediction_sets`` and, if the bundle reads metadata, ``metadata``, as in
        a run's ``metrics.json``.

    Raises:
        BundleError: the bundle cannot be verified, or has no split.
        DataError: the data set lacks test images of the split.
    """
    bundle = load_bundle(folder)
    rows = _rows(bundle, data, "test")
    predictions = predict_rows(bundle, rows)
    found: dict[str, Any] = {
        "test": bootstrap(predictions, resamples=resamples),
        "as_published": score_as_published(predictions, resamples=resamples),
        "prediction_sets": measure_prediction_sets(
            predictions, _thresholds(bundle.manifest.prediction_sets, predictions.codes), resamples=resamples
        ),
    }
    if bundle.manifest.metadata is not None:
        image_only, known = with_known(predictions, rows)
        found["metadata"] = measure(
            image_only,
            predict_rows(bundle, known, metadata=True),
            known,
            set_thresholds=_thresholds(bundle.manifest.metadata.prediction_sets, predictions.codes),
            resamples=resamples,
        )
    return found


def _thresholds(sets: PredictionSets, codes: Sequence[str]) -> np.ndarray:
    return np.array([sets.thresholds[code] for code in codes])


def predictions_of(bundle: Bundle, data: Path, part: str) -> Predictions:
    """Return the bundle's predictions on one part of its split, whose images are in ``data``.

    Raises:
        BundleError: the bundle has no split, or its classes belong to no known task.
        DataError: the data set lacks images of the part.
    """
    return predict_rows(bundle, _rows(bundle, data, part))


def predictions_with_metadata(bundle: Bundle, data: Path, part: str) -> Predictions:
    """Return ``predictions_of`` with metadata, for the images of which any value is known."""
    rows = _rows(bundle, data, part)
    known = np.flatnonzero(encode(rows).any(axis=1)).tolist()
    return predict_rows(bundle, [rows[index] for index in known], metadata=True)


def predict_rows(bundle: Bundle, rows: Sequence[Row], *, metadata: bool = False) -> Predictions:
    """Return the bundle's predictions on the images of ``rows``, decoded as in the service.

    Args:
        bundle: the bundle.
        rows: the images.
        metadata: whether to use their age, sex and site. The bundle must read them.

    Raises:
        BundleError: the bundle's classes belong to no known task.
        ImageError: an image cannot be decoded.
    """
    manifest = bundle.manifest
    task = next((task for task in TASKS if classes_of(task).codes == manifest.codes), None)
    if task is None:
        raise BundleError(f"{bundle.path}: its classes {', '.join(manifest.codes)} belong to no known task")
    classes = classes_of(task)
    spec = manifest.metadata if metadata else None
    known = None if spec is None else np.stack([spec.encode(metadata_of(row)) for row in rows])
    chunks = [
        run_graph(
            bundle.model_path,
            _decode(bundle, rows[start : start + _CHUNK]),
            batch_size=8,
            metadata=None if known is None else known[start : start + _CHUNK],
        )
        for start in range(0, len(rows), _CHUNK)
    ]
    probabilities = np.concatenate([chunk["probabilities"] for chunk in chunks]).astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # as the service does
    prior = np.array([manifest.decision_rule.prior[code] for code in manifest.codes])
    return Predictions(
        probabilities=probabilities,
        decided=decide(probabilities, prior, manifest.decision_rule.tau),
        labels=classes.indices([row.dx for row in rows]),
        lesions=np.array([row.lesion_id for row in rows]),
        codes=manifest.codes,
        malignant=np.array([c.malignant for c in manifest.classes]),
        threshold=(spec or manifest.operating_point).threshold,
    )


def _rows(bundle: Bundle, data: Path, part: str) -> list[Row]:
    file = bundle.path / SPLIT_NAME
    if SPLIT_NAME not in bundle.manifest.files:
        raise BundleError(f"{file}: missing; export the bundle again")
    with file.open(newline="", encoding="utf-8") as stream:
        wanted = {record["image_id"] for record in csv.DictReader(stream) if record["part"] == part}
    rows = [row for row in read_dataset(data) if row.image_id in wanted]
    if len(rows) < len(wanted):
        missing = wanted - {row.image_id for row in rows}
        raise DataError(
            f"{data}: {len(missing)} {part} images of the bundle are missing, for example {min(missing)}"
        )
    return rows


def _decode(bundle: Bundle, rows: Sequence[Row]) -> np.ndarray:
    spec = bundle.manifest.input

    def pixels(row: Row) -> np.ndarray:
        data = row.path.read_bytes()
        return decode(data, height=spec.height, width=spec.width, color=spec.color).pixels

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(pixels, rows)))
