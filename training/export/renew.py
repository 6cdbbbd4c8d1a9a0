"""Refits the prediction sets of a bundle without training, after their rule has changed."""

import shutil
from pathlib import Path
from typing import Any

from models.bundle import MANIFEST_NAME, Bundle, Interval, MetadataInput, load_bundle, save_bundle
from models.errors import BundleError
from models.manifest.predictive import PREVALENCE
from models.manifest.safeguards import PredictionSets
from training.calibration.conformal import fit_prediction_sets, measure_prediction_sets
from training.evaluation.report import metadata_section, prediction_set_section
from training.export.model_card import write_model_card
from training.export.rescore import predictions_of, predictions_with_metadata
from training.markdown import replace_section
from training.metrics.scores import Predictions, bootstrap
from training.run import read_json, write_json

_CARD, _METRICS, _REPORT = "MODEL_CARD.md", "report/metrics.json", "report/report.md"


def renew(folder: Path, data: Path, version: str, *, resamples: int = 1000) -> Bundle:
    """Replace the bundle in ``folder`` by a new ``version`` with prediction sets of the current rule.

    The thresholds are fitted on the validation part of the bundle's split, and the coverage is measured on
    its test part. The prevalence is added to the metrics. Graph, split, plots and all other metrics do not
    change.

    Args:
        folder: the bundle.
        data: the data set on which it was trained.
        version: the new version of the model.
        resamples: number of bootstrap resamples.

    Returns:
        The new bundle.

    Raises:
        BundleError: the bundle cannot be verified, or lacks its split, model card or report.
        DataError: the data set lacks images of the split.
    """
    bundle = load_bundle(folder)
    old = bundle.manifest
    if missing := {_CARD, _METRICS, _REPORT} - set(old.files):
        raise BundleError(f"{folder}: {', '.join(sorted(missing))} missing")
    validation, test = (predictions_of(bundle, data, part) for part in ("validation", "test"))
    fitted, sets = _refit(old.prediction_sets.coverage, validation, test, resamples)
    prevalence = {
        part: bootstrap(found, resamples=resamples)[PREVALENCE]
        for part, found in (("validation", validation), ("test", test))
    }
    adjusted = None if old.metadata is None else _metadata(bundle, old.metadata, data, resamples)
    new = old.model_copy(
        update={
            "metadata": None if adjusted is None else adjusted[0],
            "version": version,
            "citation": old.citation.replace(f"{old.name} {old.version}", f"{old.name} {version}"),
            "prediction_sets": fitted,
            "metrics": old.metrics | {PREVALENCE: Interval(**prevalence["test"])},
        }
    )
    staging = folder.with_name(folder.name + ".part")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(folder, staging, ignore=shutil.ignore_patterns(MANIFEST_NAME))
    metrics = read_json(staging / _METRICS)
    metrics["prediction_sets"] = sets
    for part, found in prevalence.items():
        metrics[part][PREVALENCE] = found
    sections = [prediction_set_section(sets, old.codes)]
    if adjusted is not None:
        spec, metrics["metadata"]["prediction_sets"] = adjusted
        sections.append(metadata_section(spec.weight, spec, spec.under_40, spec.prediction_sets.measured))
    write_json(staging / _METRICS, metrics)
    report = staging / _REPORT
    text = report.read_text(encoding="utf-8")
    for section in sections:
        text = replace_section(text, section)
    report.write_text(text, encoding="utf-8")
    write_model_card(staging / _CARD, new, None)
    save_bundle(staging, new)
    shutil.rmtree(folder)
    staging.replace(folder)
    return load_bundle(folder)


def _refit(
    coverage: float, validation: Predictions, test: Predictions, resamples: int
) -> tuple[PredictionSets, dict[str, Any]]:
    """Return the manifest's field and the result of ``measure_prediction_sets``."""
    thresholds = fit_prediction_sets(
        validation.probabilities, validation.labels, validation.decided, coverage
    )
    sets = measure_prediction_sets(test, thresholds, resamples=resamples)
    field = PredictionSets(
        coverage=coverage,
        thresholds={code: float(t) for code, t in zip(test.codes, thresholds, strict=True)},
        measured={name: Interval(**found) for name, found in sets["measured"].items()},
        mean_size=Interval(**sets["size"]["overall"]),
    )
    return field, sets


def _metadata(
    bundle: Bundle, spec: MetadataInput, data: Path, resamples: int
) -> tuple[MetadataInput, dict[str, Any]]:
    """Refit the prediction sets of images with metadata; see ``_refit``."""
    validation, test = (predictions_with_metadata(bundle, data, part) for part in ("validation", "test"))
    field, sets = _refit(spec.prediction_sets.coverage, validation, test, resamples)
    return spec.model_copy(update={"prediction_sets": field}), sets
