"""Calibrates a run on the validation part, then evaluates it on the test part."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np
from pydantic import TypeAdapter

from training.calibration.combination import Combination, initial_combination
from training.calibration.fit import Calibration, fit_calibration, member_temperatures
from training.calibration.member_outputs import MemberOutputs, predict
from training.calibration.safeguards import Safeguards, fit_safeguards, measure_safeguards
from training.evaluation.as_published import score_as_published
from training.evaluation.metadata import FittedMetadata, Rule, adjust, measure, with_known
from training.evaluation.metadata import fit as fit_metadata
from training.evaluation.report import write_report
from training.evaluation.specialists import plot_specialists, specialist_predictions
from training.fit.batches import Subset, log_prior_shift
from training.fit.loop import NETWORK
from training.metrics.predictions import save_predictions
from training.metrics.scores import Predictions, bootstrap, scores
from training.recipe import RecipeError
from training.run import Run, read_json, write_json

_CALIBRATION = TypeAdapter(Calibration)
_OOD_IMAGES = 3000
"""Number of training images from which the out-of-distribution score is fitted, evenly spaced."""


def load_networks(run: Run) -> list[keras.Model]:
    """Load the trained members with their best weights, in the recipe's order.

    Raises:
        RecipeError: the training of a member is not finished.
    """
    files = [run.folder / member.name / NETWORK for member in run.recipe.members]
    for file in files:
        if not file.is_file():
            raise RecipeError(f"{file.parent}: training is not finished; continue it with `train`")
    return [keras.saving.load_model(file) for file in files]


@dataclass(frozen=True)
class Fitted:
    """Everything that is fitted after training, on training and validation images.

    ``metadata`` is None if the predictions do not use age, sex and site.
    """

    calibration: Calibration
    safeguards: Safeguards
    metadata: FittedMetadata | None = None


def evaluate(run: Run, networks: list[keras.Model], *, resamples: int = 1000) -> dict[str, Any]:
    """Calibrate the run, evaluate it on the test part, and write ``evaluation/``.

    The members' outputs are stored in the run folder. A second call uses the stored outputs.

    Args:
        run: the run.
        networks: its members, from ``load_networks``.
        resamples: number of bootstrap resamples.

    Returns:
        The contents of ``evaluation/metrics.json``.
    """
    fitted = calibrate(run, networks)
    folder = run.folder / "evaluation"
    folder.mkdir(exist_ok=True)
    # Test images are read only after everything is fitted.
    outputs = _member_outputs(run, networks, "test")
    alone = _members_alone(run, networks, fitted.calibration)
    test, members = _score(run, networks, fitted.calibration, alone, "test")
    validation, _ = _score(run, networks, fitted.calibration, alone, "validation")
    metrics: dict[str, Any] = {
        "split_by": run.split_by,
        "test": bootstrap(test, resamples=resamples),
        "validation": bootstrap(validation, resamples=resamples),
        "members": {name: scores(predictions) for name, predictions in members.items()},
        "as_published": score_as_published(test, resamples=resamples),
        **measure_safeguards(
            fitted.safeguards,
            test,
            run.part("test"),
            features=outputs.features,
            disagreement=fitted.calibration.disagreement(outputs.logits),
            resamples=resamples,
        ),
    }
    if fitted.metadata is not None:
        rule = _rule(fitted.calibration)
        metrics["metadata"] = _measure_metadata(run, fitted.metadata, rule, validation, test, resamples)
    write_json(folder / "metrics.json", metrics)
    specialists = specialist_predictions(run, fitted.calibration, outputs.logits, "test")
    plot_specialists(folder, specialists)
    write_report(folder, run, fitted.calibration, metrics, test, specialists)
    return metrics


def calibrate(run: Run, networks: list[keras.Model]) -> Fitted:
    """Fit calibration and safeguards, and write them to the run folder; reads no test image."""
    outputs = _member_outputs(run, networks, "validation")
    labels = run.labels("validation")
    codes = run.classes.codes
    calibration = fit_calibration(
        outputs.logits,
        labels,
        np.array([row.lesion_id for row in run.part("validation")]),
        combination=initial_combination(run.recipe, codes),
        weighting=run.recipe.weighting,
        log_prior_shifts=[
            log_prior_shift(run.member_labels(member, "train"), run.recipe, run.class_count(member))
            for member in run.recipe.members
        ],
        prior=np.array(list(run.training_prior.values())),
        malignant=run.classes.malignant,
        target_sensitivity=run.recipe.target_sensitivity,
    )
    write_json(run.folder / "calibration.json", asdict(calibration))
    validation = _predictions(run, calibration, calibration.probabilities(outputs.logits), "validation")
    safeguards = fit_safeguards(
        validation,
        disagreement=calibration.disagreement(outputs.logits),
        training_outputs=_member_outputs(run, networks, "train", _OOD_IMAGES),
        validation_outputs=outputs,
        pixels=run.pixels("train", run.recipe.size),
    )
    safeguards.save(run.folder)
    return Fitted(calibration, safeguards, _fit_metadata(run, calibration, validation))


def _fit_metadata(run: Run, calibration: Calibration, validation: Predictions) -> FittedMetadata | None:
    (run.folder / "metadata.json").unlink(missing_ok=True)
    if run.recipe.task != "diagnosis":
        return None
    fitted = fit_metadata(
        run.part("train"),
        run.labels("train"),
        validation,
        run.part("validation"),
        rule=_rule(calibration),
        target_sensitivity=run.recipe.target_sensitivity,
    )
    if fitted is not None:
        fitted.save(run.folder)
    return fitted


def _measure_metadata(
    run: Run,
    fitted: FittedMetadata,
    rule: Rule,
    validation: Predictions,
    test: Predictions,
    resamples: int,
) -> dict[str, Any]:
    """Return ``metadata`` of ``metrics.json``: metrics with and without metadata on the same images."""
    found, rows = with_known(validation, run.part("validation"))
    on_validation = bootstrap(adjust(fitted, found, rows, rule), resamples=resamples)
    image_only, rows = with_known(test, run.part("test"))
    measured = measure(
        image_only,
        adjust(fitted, image_only, rows, rule),
        rows,
        set_thresholds=fitted.set_thresholds,
        resamples=resamples,
    )
    return {"weight": fitted.factors.weight, "validation": on_validation, **measured}


def _rule(calibration: Calibration) -> Rule:
    return Rule(np.array(calibration.prior), calibration.tau)


def read_fitted(run: Run) -> Fitted:
    """Read what ``calibrate`` wrote to the run folder."""
    calibration = _CALIBRATION.validate_python(read_json(run.folder / "calibration.json"))
    return Fitted(calibration, Safeguards.load(run.folder), FittedMetadata.load(run.folder))


def _members_alone(run: Run, networks: list[keras.Model], calibration: Calibration) -> dict[int, Calibration]:
    """Return the calibration of each single member that predicts all classes, by the member's index.

    Only the temperature is fitted; decision rule and malignancy threshold are those of the run.
    """
    full = [index for index, member in enumerate(run.recipe.members) if not member.classes]
    logits = _member_outputs(run, networks, "validation").logits
    shifts = [calibration.log_prior_shifts[index] for index in full]
    temperatures = member_temperatures([logits[index] for index in full], run.labels("validation"), shifts)
    return {
        index: replace(
            calibration,
            combination=Combination("mean", (1.0,), ((),)),
            temperatures=(temperature,),
            log_prior_shifts=(shift,),
        )
        for index, temperature, shift in zip(full, temperatures, shifts, strict=True)
    }


def _score(
    run: Run,
    networks: list[keras.Model],
    calibration: Calibration,
    alone: Mapping[int, Calibration],
    part: str,
) -> tuple[Predictions, dict[str, Predictions]]:
    """Return the predictions of the ensemble and of each single member; write them to ``evaluation/``."""
    logits = _member_outputs(run, networks, part).logits
    ensemble = _predictions(run, calibration, calibration.probabilities(logits), part)
    full = {
        run.recipe.members[index].name: _predictions(run, own, own.probabilities([logits[index]]), part)
        for index, own in alone.items()
    }
    image_ids = [row.image_id for row in run.part(part)]
    save_predictions(run.folder / "evaluation" / f"{part}.npz", image_ids, ensemble, full)
    return ensemble, full


def _member_outputs(
    run: Run, networks: list[keras.Model], part: str, count: int | None = None
) -> MemberOutputs:
    """Return the networks' outputs for one part, or for ``count`` of its images, stored in the run folder.

    The file name contains a digest of the networks, so outputs of other networks are not used.
    """
    digest = hashlib.sha256(str(count).encode())
    for member in run.recipe.members:
        digest.update((run.folder / member.name / NETWORK).read_bytes())
    stored = run.folder / f"{part}_answers-{digest.hexdigest()[:16]}.npz"
    if not stored.is_file():
        pixels = run.pixels(part, run.recipe.size)
        chosen = np.arange(len(pixels))
        if count is not None and count < len(pixels):
            chosen = np.linspace(0, len(pixels) - 1, count).astype(int)
        predict(networks, Subset(pixels, chosen), batch_size=run.recipe.batch_size).save(stored)
    return MemberOutputs.load(stored)


def _predictions(run: Run, calibration: Calibration, probabilities: np.ndarray, part: str) -> Predictions:
    return Predictions(
        probabilities=probabilities,
        decided=calibration.decide(probabilities),
        labels=run.labels(part),
        lesions=np.array([row.lesion_id for row in run.part(part)]),
        codes=run.classes.codes,
        malignant=run.classes.malignant,
        threshold=calibration.threshold,
    )
