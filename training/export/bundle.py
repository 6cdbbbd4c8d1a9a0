"""Exports an evaluated run as a bundle: graph, manifest, model card, report."""

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.bundle import (
    MANIFEST_NAME,
    MODEL_NAME,
    Bundle,
    ClassInfo,
    DataSummary,
    DecisionRule,
    InputSpec,
    Interval,
    Manifest,
    Member,
    OperatingPoint,
    load_bundle,
    save_bundle,
)
from training.calibration.safeguards import safeguard_fields
from training.data.prepare import SPLIT_NAME
from training.data.split import PARTS, image_counts, write_split
from training.evaluation.evaluate import Fitted
from training.evaluation.metadata import metadata_field
from training.export.graph import check_parity, export_onnx
from training.export.metadata import add_checked_metadata_input
from training.export.model_card import CITATION, INTENDED_USE, LICENCE, LICENCE_TEXT, LIMITS, write_model_card
from training.export.runtime import OUTPUTS
from training.export.simplification import simplify
from training.recipe import RecipeError
from training.run import Run, git_revision, read_json

_PARITY_IMAGES = 28


def write_bundle(
    run: Run,
    networks: list[keras.Model],
    fitted: Fitted,
    *,
    name: str,
    version: str,
    folder: Path,
    external_tests: str = "",
) -> Bundle:
    """Export the graph, compare it with Keras on validation images, and write the bundle to ``folder``.

    The bundle replaces the folder after it has passed all checks.

    Args:
        run: a run that ``evaluate`` has evaluated.
        networks, fitted: the run's networks, calibration and safeguards.
        name, version: name and version of the model, for the manifest.
        folder: the bundle's folder.
        external_tests: for the model card, see ``write_model_card``.

    Returns:
        The verified bundle.

    Raises:
        RecipeError: the run is not evaluated, its split is by image, or ``folder`` holds something other
            than a bundle.
        ExportError: the graph's outputs differ from those of Keras.
    """
    if run.split_by == "image":
        raise RecipeError(f"{run.folder}: not exported, because metrics of a split by image are too high")
    evaluation = run.folder / "evaluation"
    if not (evaluation / "metrics.json").is_file():
        raise RecipeError(f"{evaluation}: no metrics; `python -m training evaluate` writes them")
    metrics = read_json(evaluation / "metrics.json")
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST_NAME).is_file():
        raise RecipeError(f"{folder}: not replaced, because it is neither empty nor a bundle")
    staging = folder.with_name(folder.name + ".part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    recipe, graph = run.recipe, staging / MODEL_NAME
    calibration, ood = fitted.calibration, fitted.safeguards.out_of_distribution
    export_onnx(networks, calibration, ood, size=recipe.size, channels=recipe.channels, path=graph)
    simplify(graph)
    pixels = run.pixels("validation", recipe.size)
    chosen = np.linspace(0, len(pixels) - 1, min(_PARITY_IMAGES, len(pixels))).astype(int)
    parity = check_parity(graph, networks, calibration, ood, np.asarray(pixels[chosen]))
    if fitted.metadata is not None:
        add_checked_metadata_input(graph, fitted.metadata.factors, np.asarray(pixels[chosen]))
    shutil.copytree(evaluation, staging / "report", ignore=shutil.ignore_patterns("*.part", "*.npz"))
    _write_used_split(run, staging / SPLIT_NAME)
    for member in recipe.members:
        curves = run.folder / member.name / "curves.png"
        if curves.is_file():
            shutil.copy(curves, staging / "report" / f"curves_{member.name}.png")
    manifest = _manifest(run, networks, fitted, metrics, name, version)
    (staging / "LICENSE").write_text(LICENCE_TEXT, encoding="utf-8")
    write_model_card(staging / "MODEL_CARD.md", manifest, parity, external_tests=external_tests)
    save_bundle(staging, manifest)
    shutil.rmtree(folder, ignore_errors=True)
    staging.replace(folder)
    return load_bundle(folder)


def _write_used_split(run: Run, path: Path) -> None:
    """Write the split of the images that the recipe used, for ``evaluate --bundle``."""
    rows = {part: run.part(part) for part in PARTS}
    split = {row.image_id: part for part, found in rows.items() for row in found}
    write_split(path, [row for part in PARTS for row in rows[part]], split)


def _manifest(
    run: Run,
    networks: list[keras.Model],
    fitted: Fitted,
    metrics: Mapping[str, Any],
    name: str,
    version: str,
) -> Manifest:
    recipe, calibration = run.recipe, fitted.calibration
    height, width = recipe.size
    images, lesions = image_counts({part: run.part(part) for part in PARTS})
    measured = safeguard_fields(fitted.safeguards, metrics)
    return Manifest(
        name=name,
        version=version,
        created=datetime.now(UTC).date().isoformat(),
        git_revision=git_revision(),
        training_git_revisions=tuple(run.environment["git_revisions"]),
        recipe=recipe.name,
        classes=tuple(ClassInfo(code=c, name=n, malignant=m) for c, n, m in run.classes.labels),
        input=InputSpec(height=height, width=width, color=recipe.color),
        metadata=None
        if fitted.metadata is None
        else metadata_field(
            fitted.metadata, metrics["metadata"], run.classes.codes, recipe.target_sensitivity
        ),
        outputs=OUTPUTS,
        combination=recipe.combination,
        members=tuple(
            Member(
                name=m.name,
                weight=w,
                temperature=t,
                parameters=network.count_params(),
                classes=m.classes,
            )
            for m, w, t, network in zip(
                recipe.members,
                calibration.combination.weights,
                calibration.temperatures,
                networks,
                strict=True,
            )
        ),
        decision_rule=DecisionRule(tau=calibration.tau, prior=run.training_prior),
        operating_point=OperatingPoint(
            threshold=calibration.threshold,
            target_sensitivity=recipe.target_sensitivity,
            sensitivity=Interval(**metrics["validation"]["malignancy_sensitivity"]),
            specificity=Interval(**metrics["validation"]["malignancy_specificity"]),
        ),
        metrics={key: Interval(**value) for key, value in metrics["test"].items()},
        data=DataSummary(name="HAM10000", images=images, lesions=lesions, citation=CITATION, licence=LICENCE),
        licence=LICENCE,
        citation=f"dermaserve, model {name} {version}; trained on: {CITATION}",
        intended_use=INTENDED_USE,
        limits=LIMITS,
        **measured,
    )
