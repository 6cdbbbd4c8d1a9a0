"""``training.calibration.out_of_distribution``: what raises the score, and what must not change it."""

import numpy as np
import pytest
import tensorflow as tf

from training.calibration.out_of_distribution import OutOfDistribution

WIDTHS = (40, 24)


def _usual(count: int, seed: int, *, scales: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Return features of two members that vary along five directions, plus a little noise."""
    directions = np.random.default_rng(7).normal(0, 1, (5, sum(WIDTHS)))
    rng = np.random.default_rng(seed)
    features = 3 + rng.normal(0, 1, (count, 5)) @ directions + rng.normal(0, 0.1, (count, sum(WIDTHS)))
    return np.asarray(features * np.repeat(scales, WIDTHS), np.float32)


def _strange(count: int, *, scales: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Return features as far from the mean as the training features, in random directions."""
    features = 3 + np.random.default_rng(1).normal(0, 2.2, (count, sum(WIDTHS)))
    return np.asarray(features * np.repeat(scales, WIDTHS), np.float32)


@pytest.fixture(scope="module")
def fitted() -> OutOfDistribution:
    return OutOfDistribution.fit(_usual(300, 0), WIDTHS)


def test_in_distribution_images_score_below_others(fitted: OutOfDistribution) -> None:
    usual, strange = fitted.score(_usual(200, 2)), fitted.score(_strange(200))
    assert usual.shape == (200,)
    assert usual.max() < strange.min()


def test_the_score_is_the_squared_distance_from_the_components(fitted: OutOfDistribution) -> None:
    z = ((_strange(20) - fitted.mean) * fitted.scale).astype(np.float64)
    nearest = z @ fitted.basis @ fitted.basis.T
    np.testing.assert_allclose(fitted.score(_strange(20)), ((z - nearest) ** 2).sum(axis=1), rtol=1e-4)
    np.testing.assert_allclose(fitted.basis.T @ fitted.basis, np.eye(fitted.basis.shape[1]), atol=1e-5)


def test_the_mean_distance_of_training_images_is_one(fitted: OutOfDistribution) -> None:
    z = (_usual(300, 0) - fitted.mean) * fitted.scale
    assert (z**2).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-4)


def test_the_graph_computes_the_same(fitted: OutOfDistribution) -> None:
    features = np.concatenate([_usual(50, 3), _strange(50)])
    graph = tf.function(lambda x: fitted.graph(tf, x))
    np.testing.assert_allclose(graph(features).numpy(), fitted.score(features), rtol=1e-4, atol=1e-6)


def test_a_members_scale_changes_nothing(fitted: OutOfDistribution) -> None:
    scales = (50.0, 0.02)
    rescaled = OutOfDistribution.fit(_usual(300, 0, scales=scales), WIDTHS)
    found = rescaled.score(_strange(30, scales=scales))
    np.testing.assert_allclose(found, fitted.score(_strange(30)), rtol=1e-2)


def test_the_same_features_give_the_same_parameters(fitted: OutOfDistribution) -> None:
    again = OutOfDistribution.fit(_usual(300, 0), WIDTHS)
    for name in ("mean", "scale", "basis"):
        assert getattr(again, name).dtype == np.float32
        np.testing.assert_array_equal(getattr(again, name), getattr(fitted, name))


@pytest.mark.parametrize(("count", "width"), [(9, 64), (200, 3), (50, 1), (1, 8)], ids=str)
def test_few_images_or_features_leave_a_residual(count: int, width: int) -> None:
    features = np.random.default_rng(0).normal(0, 1, (count, width))
    fitted = OutOfDistribution.fit(features)
    far = fitted.score(features[:1] + 100 * np.random.default_rng(1).normal(0, 1, (5, width)))
    assert np.isfinite(far).all()
    assert far.min() > fitted.score(features).mean()


def test_a_member_with_constant_features_causes_no_division_by_zero() -> None:
    features = np.column_stack([_usual(60, 0), np.zeros((60, 4))])
    assert np.isfinite(OutOfDistribution.fit(features, (*WIDTHS, 4)).score(features)).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 7.5])
@pytest.mark.parametrize("constant", [1, 30, 63, 64])
def test_constant_features_of_a_dead_layer_do_not_change_the_score(constant: int, value: float) -> None:
    features = _usual(60, 0)
    features[:, :constant] = value
    fitted = OutOfDistribution.fit(features, WIDTHS)
    score = fitted.score(features)
    assert np.isfinite(fitted.basis).all()
    assert np.isfinite(score).all()
    strange = features.copy()
    strange[:, :constant] += 100.0  # what was never seen to change changes
    assert fitted.score(strange).min() > score.max()


def test_widths_with_another_sum_are_refused() -> None:
    with pytest.raises(ValueError, match="widths that sum to 64"):
        OutOfDistribution.fit(_usual(10, 0), (40, 25))
