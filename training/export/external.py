"""Evaluates a bundle on images from outside its data set, in the layout of the ISIC 2018 challenge.

The ground truth is a CSV file with the column ``image`` and a column for each class; in each row, one class
is 1 and all others are 0. Balanced accuracy (arg-max) and the AUC of each class equal those of the
challenge's official scorer (``isic-challenge-scoring``).
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Bundle, load_bundle
from models.manifest.safeguards import PredictionSets
from training.calibration.conformal import measure_prediction_sets
from training.data.dataset import METADATA_NAME, DataError, Row, find_images, read_dataset
from training.data.near_duplicates import SIZE, near_duplicates
from training.data.pixels import read_thumbnails
from training.data.prepare import SPLIT_NAME
from training.evaluation.as_published import score_as_published
from training.evaluation.report import write_external_report
from training.export.rescore import predict_rows
from training.metrics.scores import Predictions, bootstrap
from training.run import write_json

NOT_SCORED = frozenset({"ISIC_0035068"})
"""Image of the challenge's test set that the official scorer ignores."""

_FITTED_ON = ("train", "validation")
_NOT_CLASSES = {"image", "lesion_id", "score_weight", "validation_weight"}


@dataclass(frozen=True)
class External:
    """The result of ``score_external``.

    Attributes:
        metrics: contents of ``metrics.json``.
        excluded: the reason, by image_id, for each image that was not scored.
    """

    metrics: dict[str, Any]
    excluded: dict[str, str]


def score_external(
    folder: Path, images: Path, truth: Path, out: Path, *, data: Path | None = None, resamples: int = 1000
) -> External:
    """Evaluate the bundle in ``folder`` on the images that ``truth`` names.

    Images on which the bundle was fitted are not scored. They are recognised by image_id and, if ``data`` is
    given, as near-duplicates.

    Args:
        folder: the bundle.
        images: folder of the images; folders in it are searched too.
        truth: CSV file in the layout of the ISIC 2018 challenge. An optional column ``lesion_id`` groups
            images for the intervals.
        out: folder for ``report.md`` with its plots, ``metrics.json``, and two files in the challenge's
            layout of a submission: ``probabilities.csv``; and ``decisions.csv``, in which the largest value
            belongs to the label that the API returns.
        data: the data set on which the bundle was trained, to search for near-duplicates.
        resamples: number of bootstrap resamples.

    Raises:
        BundleError: the bundle cannot be verified.
        DataError: the ground truth cannot be read, an image is missing, or no image remains.
        ImageError: an image cannot be decoded.
    """
    bundle = load_bundle(folder)
    rows = read_truth(truth, images, bundle.manifest.codes)
    excluded = {row.image_id: "not scored by the challenge" for row in rows if row.image_id in NOT_SCORED}
    excluded |= _fitted_on(bundle, rows, data)
    rows = [row for row in rows if row.image_id not in excluded]
    if not rows:
        raise DataError(f"{truth}: no image remains; the bundle was fitted on all of them")
    predictions = predict_rows(bundle, rows)
    sets = bundle.manifest.prediction_sets
    metrics = {
        "bundle": {"name": bundle.manifest.name, "version": bundle.manifest.version, "digest": bundle.digest},
        "images": len(rows),
        "excluded": excluded,
        "near_duplicates_looked_for": data is not None,
        "test": bootstrap(predictions, resamples=resamples),
        "as_published": score_as_published(predictions, resamples=resamples),
        "prediction_sets": measure_prediction_sets(
            predictions, _thresholds(sets, predictions), resamples=resamples
        ),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "metrics.json", metrics)
    write_external_report(out, metrics, predictions)
    ids = [row.image_id for row in rows]
    _write_scores(out / "probabilities.csv", ids, predictions.codes, predictions.probabilities)
    rule = bundle.manifest.decision_rule
    prior = np.array([rule.prior[code] for code in predictions.codes])
    adjusted = predictions.probabilities / prior**rule.tau
    _write_scores(
        out / "decisions.csv", ids, predictions.codes, adjusted / adjusted.sum(axis=1, keepdims=True)
    )
    return External(metrics, excluded)


def read_truth(truth: Path, images: Path, codes: Sequence[str]) -> list[Row]:
    """Read the images that ``truth`` names, with their diagnoses, sorted by image_id.

    Raises:
        DataError: a column or an image file is missing, a class is unknown, or a row does not have exactly
            one class. The message names at most ten rows.
    """
    try:
        with truth.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restval="")
            columns = list(reader.fieldnames or ())
            records = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{truth}: not a readable CSV file ({error})") from error
    by_code = {column.lower(): column for column in columns if column not in _NOT_CLASSES}
    if "image" not in columns or set(by_code) != set(codes):
        raise DataError(
            f"{truth}: expected the columns image and {', '.join(codes)}; got {', '.join(columns) or 'none'}"
        )
    files = find_images(images)
    rows: dict[str, Row] = {}
    problems = []
    for number, record in enumerate(records, start=2):
        image_id = record["image"].removesuffix(".jpg")
        named = [code for code in codes if _is_one(record[by_code[code]])]
        if len(named) != 1 or not all(_is_zero_or_one(record[column]) for column in by_code.values()):
            problems.append(f"line {number}: expected 1 in the column of one class and 0 in the others")
        elif image_id in rows:
            problems.append(f"line {number}: {image_id} occurs twice")
        elif image_id not in files:
            problems.append(f"line {number}: no image file for {image_id}")
        else:
            lesion = record.get("lesion_id") or image_id
            rows[image_id] = Row(image_id, lesion, named[0], "", None, "unknown", "unknown", files[image_id])
    if problems:
        shown = "\n  ".join(problems[:10])
        raise DataError(f"{truth}: {len(problems)} rows cannot be used:\n  {shown}")
    if not rows:
        raise DataError(f"{truth}: no rows")
    return [rows[image_id] for image_id in sorted(rows)]


def _is_one(text: str) -> bool:
    return _is_zero_or_one(text) and float(text) == 1


def _is_zero_or_one(text: str) -> bool:
    try:
        return float(text) in (0.0, 1.0)
    except ValueError:
        return False


def _fitted_on(bundle: Bundle, rows: Sequence[Row], data: Path | None) -> dict[str, str]:
    """Return the reason, by image_id, for each of ``rows`` on which the bundle was fitted."""
    if SPLIT_NAME not in bundle.manifest.files:
        raise DataError(f"{bundle.path}: the bundle has no split, so its training images are unknown")
    with (bundle.path / SPLIT_NAME).open(newline="", encoding="utf-8") as stream:
        parts = {record["image_id"]: record["part"] for record in csv.DictReader(stream)}
    fitted = {image_id for image_id, part in parts.items() if part in _FITTED_ON}
    found = {row.image_id: f"in the {parts[row.image_id]} part" for row in rows if row.image_id in fitted}
    if data is None:
        return found
    known = [row for row in read_dataset(data) if row.image_id in fitted]
    if len(known) < len(fitted):
        raise DataError(f"{data / METADATA_NAME}: lacks images on which the bundle was fitted")
    outside = [row for row in rows if row.image_id not in fitted]
    # Equal lesion ids of two data sets do not mean the same lesion.
    together = [
        replace(row, lesion_id=f"{origin}/{row.lesion_id}")
        for origin, of_origin in (("known", known), ("outside", outside))
        for row in of_origin
    ]
    for pair in near_duplicates(together, read_thumbnails(together, SIZE)):
        ids = {row.lesion_id.partition("/")[0]: row.image_id for row in (pair.first, pair.second)}
        if len(ids) == 2:
            found.setdefault(
                ids["outside"], f"near-duplicate of {ids['known']} in the {parts[ids['known']]} part"
            )
    return found


def _thresholds(sets: PredictionSets, predictions: Predictions) -> np.ndarray:
    return np.array([sets.thresholds[code] for code in predictions.codes])


def _write_scores(path: Path, ids: Sequence[str], codes: Sequence[str], scores: np.ndarray) -> None:
    """Write a submission in the layout of the challenge."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", *(code.upper() for code in codes)])
        writer.writerows(
            [image_id, *map(repr, line.tolist())] for image_id, line in zip(ids, scores, strict=True)
        )
