"""Calibrate on the validation part, then score the test part."""

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
from training.evaluation.report import write_report
from training.fit.batches import Subset, log_prior_shift
from training.fit.loop import NETWORK
from training.metrics.predictions import save_predictions
from training.metrics.scores import Predictions, bootstrap, scores
from training.recipe import RecipeError
from training.run import Run, read_json, write_json

_CALIBRATION = TypeAdapter(Calibration)
_OOD_IMAGES = 3000
"""Training images whose features describe what the model knows; evenly spaced over the part."""


def load_networks(run: Run) -> list[keras.Model]:
    """The trained members with their best weights, in the recipe's order.

    Raises:
        RecipeError: a member is not trained to its end.
    """
    files = [run.folder / member.name / NETWORK for member in run.recipe.members]
    for file in files:
        if not file.is_file():
            raise RecipeError(f"{file.parent}: not trained to its end; `python -m training train` goes on")
    return [keras.saving.load_model(file) for file in files]


@dataclass(frozen=True)
class Fitted:
    """Everything that is fitted after training, on train and validation images."""

    calibration: Calibration
    safeguards: Safeguards


def evaluate(run: Run, networks: list[keras.Model], *, resamples: int = 1000) -> dict[str, Any]:
    """Fit what ``calibrate`` fits, score the test part and write ``evaluation/``.

    The test images are read once per run: the outputs for them are kept, and a second call makes the
    report again from those.

    Args:
        run: the run.
        networks: its members, from ``load_networks``.
        resamples: of the bootstrap.

    Returns:
        The contents of ``evaluation/metrics.json``.
    """
    fitted = calibrate(run, networks)
    folder = run.folder / "evaluation"
    folder.mkdir(exist_ok=True)
    # Everything is fitted by now; only here are test images read.
    outputs = _member_outputs(run, networks, "test")
    alone = _members_alone(run, networks, fitted.calibration)
    test, members = _score(run, networks, fitted.calibration, alone, "test")
    validation, _ = _score(run, networks, fitted.calibration, alone, "validation")
    metrics: dict[str, Any] = {
        "test": bootstrap(test, resamples=resamples),
        "validation": bootstrap(validation, resamples=resamples),
        "members": {name: scores(predictions) for name, predictions in members.items()},
        **measure_safeguards(
            fitted.safeguards,
            test,
            run.part("test"),
            features=outputs.features,
            disagreement=fitted.calibration.disagreement(outputs.logits),
            resamples=resamples,
        ),
    }
    write_json(folder / "metrics.json", metrics)
    write_report(folder, run, fitted.calibration, metrics, test)
    return metrics


def calibrate(run: Run, networks: list[keras.Model]) -> Fitted:
    """Fit calibration and safeguards, and keep them in the run folder; reads no test image."""
    outputs = _member_outputs(run, networks, "validation")
    labels = run.labels("validation")
    codes = run.classes.codes
    calibration = fit_calibration(
        outputs.logits,
        labels,
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
    members = calibration.member_probabilities(outputs.logits)
    safeguards = fit_safeguards(
        _predictions(run, calibration, calibration.combination(members), "validation"),
        disagreement=calibration.disagreement(outputs.logits),
        training_outputs=_member_outputs(run, networks, "train", _OOD_IMAGES),
        validation_outputs=outputs,
        pixels=run.pixels("train", run.recipe.size),
    )
    safeguards.save(run.folder)
    return Fitted(calibration, safeguards)


def read_fitted(run: Run) -> Fitted:
    """What ``calibrate`` left in the run folder."""
    calibration = _CALIBRATION.validate_python(read_json(run.folder / "calibration.json"))
    return Fitted(calibration, Safeguards.load(run.folder))


def _members_alone(run: Run, networks: list[keras.Model], calibration: Calibration) -> dict[int, Calibration]:
    """For each member that answers all classes, by its index: the calibration of that member by itself.

    Temperature only: the decision rule and the malignancy threshold remain those of the run.
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
    """Predictions of the ensemble, and of each member in ``alone`` by itself; kept in ``evaluation/``."""
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
    """The networks' outputs for one part, or for ``count`` of its images, kept in the run folder.

    The file's name holds a digest of the networks, so that outputs of others are never taken for theirs.
    """
    digest = hashlib.sha256(str(count).encode())
    for member in run.recipe.members:
        digest.update((run.folder / member.name / NETWORK).read_bytes())
    kept = run.folder / f"{part}_answers-{digest.hexdigest()[:16]}.npz"
    if not kept.is_file():
        pixels = run.pixels(part, run.recipe.size)
        chosen = np.arange(len(pixels))
        if count is not None and count < len(pixels):
            chosen = np.linspace(0, len(pixels) - 1, count).astype(int)  # evenly over the part
        predict(networks, Subset(pixels, chosen), batch_size=run.recipe.batch_size).save(kept)
    return MemberOutputs.load(kept)


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
