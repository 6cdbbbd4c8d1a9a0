from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from training.calibration.combination import Combination
from training.calibration.fit import Calibration, decide, fit_calibration, fit_threshold, member_temperatures
from training.fit.batches import class_weights, draw, log_prior_shift
from training.recipe import MemberRecipe, Recipe


def _recipe(**changes: Any) -> Recipe:
    member = MemberRecipe("only", "mobilenet_v2", ())
    return Recipe(name="test", members=(member,), **changes)


def _drawn(rng: np.random.Generator, logits: np.ndarray) -> np.ndarray:
    """Draw labels from the softmax of ``logits``."""
    return np.array([rng.choice(len(p), p=p) for p in softmax(logits, axis=1)])


def test_the_temperature_removes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 2
    labels = _drawn(rng, logits)
    fitted = _fit([3.0 * logits], labels)
    assert fitted.temperatures[0] == pytest.approx(3.0, rel=0.1)
    assert fitted.probabilities([3.0 * logits]) == pytest.approx(softmax(logits, axis=1), abs=0.05)


def test_the_ensemble_as_a_whole_is_calibrated() -> None:
    """Temperatures fitted to each member alone leave the mean under-confident; joint temperatures do not."""
    rng = np.random.default_rng(1)
    evidence = rng.normal(size=(4000, 3)) * 2
    labels = _drawn(rng, evidence)
    members = [evidence + rng.normal(size=(4000, 3)) * 1.5 for _ in range(2)]
    apart = tuple(_fit([member], labels).temperatures[0] for member in members)
    together = _fit(members, labels, weights=(0.6, 0.4))

    def overconfidence(fitted: Calibration) -> float:
        p = fitted.probabilities(members)
        return float(p.max(axis=1).mean() - (p.argmax(axis=1) == labels).mean())

    assert overconfidence(replace(together, temperatures=apart)) < -0.02
    assert abs(overconfidence(together)) < 0.01


def test_the_prior_shift_removes_the_effect_of_oversampling() -> None:
    """Bayes' rule by hand: two classes, 900 to 100, drawn as 30 to 10."""
    labels = np.repeat([0, 1], [900, 100])
    shift = log_prior_shift(labels, _recipe(sampling_power=0.5), 2)
    learnt = np.log([[0.75, 0.25]])  # what a network without any evidence learns: the prior it saw
    assert softmax(learnt - shift) == pytest.approx(np.array([[0.9, 0.1]]))


def test_the_prior_shift_removes_the_effect_of_loss_weights() -> None:
    labels = np.repeat([0, 1], [900, 100])
    weighted = log_prior_shift(labels, _recipe(class_weight_power=0.5), 2)
    drawn = log_prior_shift(labels, _recipe(sampling_power=0.5), 2)
    assert weighted == pytest.approx(drawn)
    assert class_weights(labels, _recipe(class_weight_power=1.0), 2) @ [0.9, 0.1] == pytest.approx(1.0)


def test_an_overconfident_network_trained_on_balanced_draws_is_calibrated_to_the_true_prevalence() -> None:
    """A network that learnt p(y|x) under the drawn prior, with logits 1.6 times too large."""
    rng = np.random.default_rng(3)
    prior, labels = np.array([0.8, 0.15, 0.05]), np.repeat([0, 1, 2], [16_000, 3_000, 1_000])
    shift = log_prior_shift(labels, _recipe(sampling_power=0.5), 3)
    evidence = np.eye(3)[labels] * 2 + rng.normal(size=(len(labels), 3)) * np.sqrt(2)
    drawn = prior**0.5 / (prior**0.5).sum()
    logits = 1.6 * (np.log(drawn) + evidence)
    fitted = _fit([logits], labels, shift=shift)
    assert fitted.temperatures[0] == pytest.approx(1.6, rel=0.05)
    assert fitted.probabilities([logits]).mean(axis=0) == pytest.approx(prior, rel=0.05)


def test_the_prior_shift_is_zero_without_balancing() -> None:
    assert log_prior_shift(np.repeat([0, 1], [900, 100]), _recipe(), 2) == pytest.approx(np.zeros(2))


def test_an_epoch_draws_classes_by_the_recipes_power() -> None:
    labels = np.repeat([0, 1], [900, 100])
    chosen = draw(labels, _recipe(sampling_power=0.5, epoch_size=0.4), np.random.default_rng(0))
    assert np.bincount(labels[chosen]).tolist() == [300, 100]
    assert len(set(chosen[labels[chosen] == 1].tolist())) == 100  # each once before any comes twice


def test_an_epoch_of_the_plain_recipe_is_every_image_once() -> None:
    labels = np.repeat([0, 1], [900, 100])
    chosen = draw(labels, _recipe(), np.random.default_rng(0))
    assert sorted(chosen.tolist()) == list(range(1000))
    assert chosen.tolist() != sorted(chosen.tolist())


@pytest.mark.parametrize("target", [0.5, 0.9, 0.97, 1.0])
def test_the_threshold_reaches_its_sensitivity_and_no_higher_one_does(target: float) -> None:
    rng = np.random.default_rng(2)
    positive = rng.random(500) < 0.3
    scores = np.clip(rng.normal(0.3, 0.15, 500) + 0.3 * positive, 0, 1)
    threshold = fit_threshold(scores, positive, target)
    assert (scores[positive] >= threshold).mean() >= target
    # The next higher score among the positives, as a threshold, would miss the target.
    next_higher = scores[positive & (scores > threshold + 1e-4)].min()
    assert (scores[positive] >= next_higher).mean() < target


def test_tau_moves_the_label_towards_rare_classes() -> None:
    p, prior = np.array([[0.6, 0.4]]), np.array([0.9, 0.1])
    assert decide(p, prior, 0.0).tolist() == [0]
    assert decide(p, prior, 1.0).tolist() == [1]


def _tau(p: np.ndarray, labels: np.ndarray, prior: np.ndarray) -> float:
    """Return the tau that is fitted for probabilities ``p``."""
    return fit_calibration(
        [np.log(p)],
        labels,
        np.arange(len(labels)).astype(str),
        combination=Combination("mean", (1.0,), ((),)),
        log_prior_shifts=[np.zeros(p.shape[1])],
        prior=prior,
        malignant=np.array([True, False]),
        target_sensitivity=0.9,
    ).tau


def _two_classes(count: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities, labels and prior of a tenth and nine tenths.

    ``shift`` is added to the logit of the rare class: 0 for calibrated probabilities.
    """
    rng = np.random.default_rng(3)
    labels = (rng.random(count) < 0.9).astype(int)
    logit = 2.0 * (labels == 0) - 1.0 + rng.normal(0, 1.0, count) * np.sqrt(2.0)
    rare = 1 / (1 + np.exp(-(logit + np.log(0.1 / 0.9) + shift)))
    return np.stack([rare, 1 - rare], axis=1), labels, np.array([0.1, 0.9])


def test_tau_is_1_where_no_other_is_measurably_better() -> None:
    for count in (60, 4000):
        assert _tau(*_two_classes(count)) == 1.0


def test_tau_is_another_where_its_interval_says_so() -> None:
    # Probabilities that hold at equal prevalence: dividing by the prior counts it twice.
    assert _tau(*_two_classes(4000, shift=np.log(0.9 / 0.1))) == 0.0


def _fit(
    logits: Sequence[np.ndarray],
    labels: np.ndarray,
    weights: tuple[float, ...] = (1.0,),
    shift: np.ndarray | None = None,
) -> Calibration:
    return fit_calibration(
        logits,
        labels,
        np.arange(len(labels)).astype(str),
        combination=Combination("mean", weights, ((),) * len(weights)),
        log_prior_shifts=[np.zeros(3) if shift is None else shift] * len(weights),
        prior=np.full(3, 1 / 3),
        malignant=np.array([True, False, False]),
        target_sensitivity=0.97,
    )


def test_a_member_scored_alone_has_its_own_temperature() -> None:
    """Two members whose errors cancel in their mean: the ensemble's temperatures make each over-confident."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 3000)
    members = [2.0 * np.eye(3)[labels] + rng.normal(0, 2.0, (3000, 3)) for _ in range(2)]
    zeros = [np.zeros(3)] * 2
    together = fit_calibration(
        members, labels, np.arange(3000).astype(str),
        combination=Combination("mean", (0.5, 0.5), ((), ())), log_prior_shifts=zeros,
        prior=np.full(3, 1 / 3), malignant=np.array([True, False, False]), target_sensitivity=0.9,
    )  # fmt: skip
    alone = member_temperatures(members, labels, [(0.0, 0.0, 0.0)] * 2)
    for index, logits in enumerate(members):
        assert alone[index] > together.temperatures[index]
        assert log_loss(labels, softmax(logits / alone[index], axis=1)) < log_loss(
            labels, softmax(logits / together.temperatures[index], axis=1)
        )
