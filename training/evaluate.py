"""Calibrate on validation, then score the test part, once."""

import hashlib
from dataclasses import asdict
from typing import Any

import keras
import numpy as np

from training.batches import log_prior_shift
from training.calibration import Calibration, fit_calibration
from training.data import CODES, MALIGNANT
from training.loop import NETWORK, predict_logits
from training.recipe import RecipeError
from training.report import write_report
from training.run import Run, read_json, write_json
from training.scores import Predictions, bootstrap, scores


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


def evaluate(run: Run, networks: list[keras.Model], *, resamples: int = 1000) -> dict[str, Any]:
    """Fit the calibration, score the test part and write ``calibration.json`` and ``evaluation/``.

    The test images are read once per run: their logits are kept, and a second call makes the
    report again from those.

    Args:
        run: the run.
        networks: its members, from ``load_networks``.
        resamples: of the bootstrap.

    Returns:
        The contents of ``evaluation/metrics.json``.
    """
    calibration = calibrate(run, networks)
    folder = run.folder / "evaluation"
    folder.mkdir(exist_ok=True)
    # Everything is fitted by now; only here are test images read.
    logits = _logits(run, networks, "test")
    ensemble = _predictions(run, calibration, calibration.probabilities(logits), "test")
    on_validation = _predictions(
        run, calibration, calibration.probabilities(_logits(run, networks, "validation")), "validation"
    )
    members = {
        member.name: _predictions(run, calibration, probabilities, "test")
        for member, probabilities in zip(
            run.recipe.members, calibration.member_probabilities(logits), strict=True
        )
    }
    metrics = {
        "test": bootstrap(ensemble, resamples=resamples),
        "validation": bootstrap(on_validation, resamples=resamples),
        "members": {name: scores(predictions) for name, predictions in members.items()},
    }
    write_json(folder / "metrics.json", metrics)
    write_report(folder, run, calibration, metrics, ensemble)
    return metrics


def calibrate(run: Run, networks: list[keras.Model]) -> Calibration:
    """Fit the calibration on the validation part and keep it in ``calibration.json``."""
    labels = run.labels("train")
    calibration = fit_calibration(
        _logits(run, networks, "validation"),
        run.labels("validation"),
        weights=tuple(member.weight for member in run.recipe.members),
        log_prior_shift=log_prior_shift(labels, run.recipe, len(CODES)),
        prior=np.array(list(run.training_prior.values())),
        malignant=np.array(MALIGNANT),
        target_sensitivity=run.recipe.target_sensitivity,
    )
    write_json(run.folder / "calibration.json", asdict(calibration))
    return calibration


def read_calibration(run: Run) -> Calibration:
    """The calibration that ``evaluate`` left in the run folder."""
    content: dict[str, Any] = read_json(run.folder / "calibration.json")
    lists_to_tuples: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in content.items()
    }
    return Calibration(**lists_to_tuples)


def _logits(run: Run, networks: list[keras.Model], part: str) -> np.ndarray:
    """Logits ``[M, N, K]`` of every member on one part, kept in the run folder.

    The file's name holds a digest of the networks, so that others' logits are never taken for theirs.
    """
    digest = hashlib.sha256()
    for member in run.recipe.members:
        digest.update((run.folder / member.name / NETWORK).read_bytes())
    kept = run.folder / f"{part}_logits-{digest.hexdigest()[:16]}.npy"
    if not kept.is_file():
        pixels = run.pixels(part, run.recipe.image_size)
        logits = np.stack([predict_logits(n, pixels, run.recipe.batch_size) for n in networks])
        np.save(run.folder / "part.npy", logits)
        (run.folder / "part.npy").replace(kept)
    return np.asarray(np.load(kept))


def _predictions(run: Run, calibration: Calibration, probabilities: np.ndarray, part: str) -> Predictions:
    return Predictions(
        probabilities=probabilities,
        decided=calibration.decide(probabilities),
        labels=run.labels(part),
        lesions=np.array([row.lesion_id for row in run.part(part)]),
        codes=CODES,
        malignant=np.array(MALIGNANT),
        threshold=calibration.threshold,
    )
