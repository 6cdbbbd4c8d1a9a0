"""The combinations computed by hand, and in TensorFlow with Grad-CAM by automatic differentiation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from training.calibration.combination import Combination, initial_combination
from training.calibration.fit import Calibration, fit_calibration
from training.export.combination import combine
from training.recipe import MemberRecipe, Recipe, RecipeError

MEAN = Combination("mean", (0.6, 0.4), ((), ()))
VOTE = Combination("vote", (1 / 3,) * 3, ((),) * 3, smoothing=0.1)
SPECIALISTS = Combination("specialists", (1.0, 0.0), ((), (0, 2)))
SEVERAL = Combination("specialists", (1.0, 0.0, 0.0), ((), (0, 2), (0, 3)))


def _probabilities(*shapes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.dirichlet(np.ones(classes), size=count) for count, classes in shapes]


def test_a_majority_wins_and_a_tie_goes_to_the_first_label() -> None:
    one, two, three = np.eye(3)
    members = [np.array([one, three]), np.array([two, two]), np.array([two, one])]
    p = VOTE(members)
    assert p.argmax(axis=1).tolist() == [1, 0]
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert p[1] == pytest.approx([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])


def test_a_specialist_decides_where_its_pair_leads_and_nowhere_else() -> None:
    base = np.array([[0.5, 0.1, 0.4], [0.4, 0.1, 0.5], [0.1, 0.4, 0.5], [0.1, 0.6, 0.3]])
    specialist = np.array([[0.2, 0.8]] * 4)
    decided = [0.18, 0.1, 0.72]
    np.testing.assert_allclose(SPECIALISTS([base, specialist]), [decided, decided, *base[2:]])


def test_a_specialist_decides_again_whenever_the_label_is_its_first_class() -> None:
    """Of several, the one whose other class is more probable: here that of classes 0 and 1, then 0 and 2."""
    combination = Combination("specialists", (1.0, 0.0, 0.0), ((), (0, 1), (0, 2)))
    base = np.array([[0.5, 0.1, 0.0, 0.4], [0.5, 0.05, 0.1, 0.35], [0.1, 0.3, 0.2, 0.4]])
    specialists = [np.array([[0.2, 0.8]] * 3), np.array([[0.5, 0.5]] * 3)]
    np.testing.assert_allclose(
        combination([base, *specialists]),
        [[0.12, 0.48, 0.0, 0.4], [0.3, 0.05, 0.3, 0.35], [0.1, 0.3, 0.2, 0.4]],
    )


def test_disagreement_is_zero_for_equal_members_and_one_for_opposite_ones() -> None:
    same = np.array([[0.7, 0.3]])
    assert MEAN.disagreement([same, same]) == pytest.approx([0.0])
    even = Combination("mean", (0.5, 0.5), ((), ()))
    assert even.disagreement([np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])]) == pytest.approx([0.5])
    assert SPECIALISTS.disagreement(_probabilities((4, 3), (4, 2))) == pytest.approx(np.zeros(4))


@pytest.mark.parametrize(
    ("combination", "shapes"),
    [
        (MEAN, [(9, 4)] * 2),
        (VOTE, [(9, 4)] * 3),
        (SPECIALISTS, [(9, 4), (9, 2)]),
        (SEVERAL, [(9, 4), (9, 2), (9, 2)]),
    ],
    ids=["mean", "vote", "specialists", "several"],
)
def test_the_graph_combines_as_the_calibration_does(
    combination: Combination, shapes: Sequence[tuple[int, int]]
) -> None:
    members = _probabilities(*shapes)
    tensors = [tf.constant(p, tf.float32) for p in members]
    maps = [tf.zeros((9, 2 + index, 3, p.shape[1])) for index, p in enumerate(members)]
    combined = combine(combination, tensors, maps)
    np.testing.assert_allclose(combined.probabilities, combination(members), atol=1e-6)
    np.testing.assert_allclose(combined.disagreement, combination.disagreement(members), atol=1e-6)
    assert combined.maps.shape == (9, 1 + len(members), 3, 4)


@pytest.mark.parametrize(
    ("combination", "shapes"),
    [(MEAN, [(9, 4)] * 2), (SPECIALISTS, [(9, 4), (9, 2)]), (SEVERAL, [(9, 4), (9, 2), (9, 2)])],
    ids=["mean", "specialists", "several"],
)
def test_maps_are_joined_by_the_derivative_of_the_log_probability(
    combination: Combination, shapes: Sequence[tuple[int, int]]
) -> None:
    """Maps of ones at a single (member, class) show its weight; it is ∂ log p_c / ∂ log p_m,j by autodiff."""
    members = [tf.constant(p, tf.float32) for p in _probabilities(*shapes)]
    logs = [tf.math.log(p) for p in members]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logs)
        again = [tf.exp(log) for log in logs]
        empty = [tf.zeros((9, 1, 1, p.shape[1])) for p in members]
        log_p = tf.math.log(combine(combination, again, empty).probabilities)
        columns = tf.unstack(log_p, axis=1)
    for m, p in enumerate(members):
        for j in range(p.shape[1]):
            maps = [tf.zeros((9, 1, 1, other.shape[1])) for other in members]
            maps[m] = tf.reshape(tf.one_hot([j] * 9, p.shape[1]), (9, 1, 1, -1))
            weights = combine(combination, members, maps).maps[:, 0, 0, :]
            expected = [tape.gradient(column, logs[m])[:, j] for column in columns]
            np.testing.assert_allclose(weights, np.stack(expected, axis=1), atol=1e-5)


def test_the_map_of_a_vote_is_that_of_the_mean() -> None:
    members = [tf.constant(p, tf.float32) for p in _probabilities((9, 4), (9, 4), (9, 4))]
    maps = [tf.random.stateless_normal((9, 2, 2, 4), seed=(0, index)) for index in range(3)]
    mean = Combination("mean", VOTE.weights, VOTE.specialties)
    np.testing.assert_allclose(combine(VOTE, members, maps).maps, combine(mean, members, maps).maps)


def _fit(logits: Sequence[np.ndarray], labels: np.ndarray, recipe: Recipe) -> Calibration:
    return fit_calibration(
        logits,
        labels,
        np.arange(len(labels)).astype(str),
        combination=initial_combination(recipe, ("a", "b", "c")),
        weighting=recipe.weighting,
        log_prior_shifts=[np.zeros(z.shape[1]) for z in logits],
        prior=np.full(3, 1 / 3),
        malignant=np.array([True, False, False]),
        target_sensitivity=0.9,
    )


def _recipe(count: int = 2, **changes: Any) -> Recipe:
    members = tuple(MemberRecipe(f"m{index}", "mobilenet", ()) for index in range(count))
    return Recipe("test", members, **changes)


def _evidence(noise: Sequence[float]) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 2000)
    return [3 * np.eye(3)[labels] + level * rng.normal(size=(2000, 3)) for level in noise], labels


def test_weights_by_accuracy_are_in_proportion_to_it() -> None:
    logits, labels = _evidence((1.0, 4.0))
    weights = _fit(logits, labels, _recipe(weighting="accuracy")).combination.weights
    accuracy = [(z.argmax(axis=1) == labels).mean() for z in logits]
    assert weights == pytest.approx([a / sum(accuracy) for a in accuracy])


def test_the_grid_gives_a_useless_member_weight_zero() -> None:
    logits, labels = _evidence((1.0, 1.0, 1000.0))
    weights = _fit(logits, labels, _recipe(3, weighting="grid")).combination.weights
    assert weights[2] <= 0.1
    assert [10 * w for w in weights] == pytest.approx([round(10 * w) for w in weights])


def test_probabilities_of_a_vote_are_graded() -> None:
    """The label is the vote's, and a threshold of high sensitivity flags few benign images."""
    logits, labels = _evidence((1.5, 1.5, 1.5))
    fitted = _fit(logits, labels, _recipe(3, combination="vote"))
    assert fitted.tau == 0.0
    p = fitted.probabilities(logits)
    votes = sum(np.eye(3)[z.argmax(axis=1)] for z in logits).argmax(axis=1)
    assert (p.argmax(axis=1) == votes).all()
    flagged = p[:, 0] >= fitted.threshold
    assert flagged[labels == 0].mean() >= 0.9
    assert flagged[labels != 0].mean() < 0.3


def test_a_recipe_with_wrong_weights_or_specialists_is_refused() -> None:
    with pytest.raises(RecipeError, match="must sum to 1"):
        _recipe(2)
    with pytest.raises(RecipeError, match="all members except the first must list"):
        _recipe(2, combination="specialists")
