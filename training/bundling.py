"""A scored run to a bundle: graph, manifest, model card, report."""

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
from models.labels import HAM10000_LABELS
from training.calibration import Calibration
from training.export import check_parity, export_onnx
from training.model_card import write_model_card
from training.recipe import RecipeError
from training.run import Run, git_revision, image_counts, read_json
from training.split import PARTS

HAM10000_CITATION = (
    'Tschandl P., Rosendahl C., Kittler H. "The HAM10000 dataset, a large collection of multi-source '
    'dermatoscopic images of common pigmented skin lesions." Sci. Data 5, 180161 (2018), '
    "doi:10.7910/DVN/DBW86T"
)
_LICENCE = "CC BY-NC 4.0"
_LICENCE_TEXT = (
    "This model was trained on HAM10000, which is published under CC BY-NC 4.0\n"
    "(https://creativecommons.org/licenses/by-nc/4.0/). The model is licensed under the same terms:\n"
    "non-commercial use, with attribution to the authors of the data set:\n\n"
    f"{HAM10000_CITATION}\n"
    "Images by the ViDIR Group, Department of Dermatology, Medical University of Vienna.\n"
)
_INTENDED_USE = (
    "Research and education on dermatoscopic images of pigmented skin lesions. Not a medical device: "
    "not as sole criterion, nor to confirm or exclude a diagnosis."
)
_LIMITS = (
    "Seven diagnoses only; anything else is still forced into one of them.",
    "Trained on dermatoscopic images from two centres (Vienna and Queensland); clinical or phone photographs "
    "without a dermatoscope are outside its training data.",
    "Skin tone is not labelled in HAM10000, so fairness across skin tones was not measured; the data comes "
    "mostly from light skin, and such models are known to fail more often on melanoma in dark skin.",
    "Probabilities are calibrated for the prevalence of the training data, which is not that of a clinic.",
    "Figures were measured on held-out lesions of the same data set; expect lower ones elsewhere.",
    "The heatmap shows where evidence for a class lies, relative to itself; it is no probability and no "
    "segmentation.",
)
_PARITY_IMAGES = 28


def write_bundle(
    run: Run, networks: list[keras.Model], calibration: Calibration, *, name: str, version: str, folder: Path
) -> Bundle:
    """Export, check against Keras on validation images, and write the bundle to ``folder``.

    The folder is replaced as a whole, and only by a bundle that passed every check.

    Args:
        run: scored by ``evaluate``.
        networks, calibration: of that run.
        name, version: of the model, for the manifest.
        folder: where the bundle goes.

    Raises:
        RecipeError: the run has not been evaluated, or ``folder`` holds something else than a bundle.
        ExportError: the graph does not agree with Keras.
    """
    scored = run.folder / "evaluation"
    if not (scored / "metrics.json").is_file():
        raise RecipeError(f"{scored}: no metrics; `python -m training evaluate` writes them")
    metrics = read_json(scored / "metrics.json")
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST_NAME).is_file():
        raise RecipeError(f"{folder} holds something that is no bundle; it is not replaced")
    staging = folder.with_name(folder.name + ".part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    size = run.recipe.image_size
    graph = staging / MODEL_NAME
    export_onnx(networks, calibration, size=size, path=graph)
    pixels = run.pixels("validation", size)
    chosen = np.linspace(0, len(pixels) - 1, min(_PARITY_IMAGES, len(pixels))).astype(int)
    parity = check_parity(graph, networks, calibration, np.asarray(pixels[chosen]))
    shutil.copytree(scored, staging / "report", ignore=shutil.ignore_patterns("*.part"))
    for member in run.recipe.members:
        curves = run.folder / member.name / "curves.png"
        if curves.is_file():
            shutil.copy(curves, staging / "report" / f"curves_{member.name}.png")
    manifest = _manifest(run, networks, calibration, metrics, name, version)
    (staging / "LICENSE").write_text(_LICENCE_TEXT, encoding="utf-8")
    write_model_card(staging / "MODEL_CARD.md", manifest, parity)
    save_bundle(staging, manifest)
    shutil.rmtree(folder, ignore_errors=True)
    staging.replace(folder)
    return load_bundle(folder)


def _manifest(
    run: Run,
    networks: list[keras.Model],
    calibration: Calibration,
    metrics: Mapping[str, Any],
    name: str,
    version: str,
) -> Manifest:
    size = run.recipe.image_size
    images, lesions = image_counts({part: run.part(part) for part in PARTS})
    return Manifest(
        name=name,
        version=version,
        created=datetime.now(UTC).date().isoformat(),
        git_revision=git_revision(),
        training_git_revisions=tuple(run.environment["git_revisions"]),
        recipe=run.recipe.name,
        classes=tuple(ClassInfo(code=c, name=n, malignant=m) for c, n, m in HAM10000_LABELS),
        input=InputSpec(height=size, width=size),
        outputs=("probabilities", "cams"),
        members=tuple(
            Member(name=m.name, weight=m.weight, temperature=t, parameters=network.count_params())
            for m, t, network in zip(run.recipe.members, calibration.temperatures, networks, strict=True)
        ),
        decision_rule=DecisionRule(tau=calibration.tau, prior=run.training_prior),
        operating_point=OperatingPoint(
            threshold=calibration.threshold,
            target_sensitivity=run.recipe.target_sensitivity,
            sensitivity=Interval(**metrics["validation"]["malignancy_sensitivity"]),
            specificity=Interval(**metrics["validation"]["malignancy_specificity"]),
        ),
        metrics={key: Interval(**value) for key, value in metrics["test"].items()},
        data=DataSummary(
            name="HAM10000", images=images, lesions=lesions, citation=HAM10000_CITATION, licence=_LICENCE
        ),
        licence=_LICENCE,
        citation=f"dermaserve, model {name} {version}; trained on: {HAM10000_CITATION}",
        intended_use=_INTENDED_USE,
        limits=_LIMITS,
    )
