"""``models.manifest.predictive``: predictive values, checked by counting lesions."""

import pytest

from models.manifest.predictive import predictive_values


def test_predictive_values_are_those_of_counted_lesions() -> None:
    # 1000 lesions, 200 malignant: 180 of them flagged, and 320 of the 800 benign ones.
    found = predictive_values(sensitivity=0.9, specificity=0.6, prevalence=0.2)
    assert found.positive == pytest.approx(180 / (180 + 320))
    assert found.negative == pytest.approx(480 / (480 + 20))
    assert found.missed == pytest.approx(20 / (480 + 20))


def test_positive_predictive_value_falls_with_prevalence() -> None:
    shares = [predictive_values(0.97, 0.57, prevalence).positive for prevalence in (0.5, 0.2, 0.05, 0.01)]
    assert shares == sorted(shares, key=lambda share: share or 0, reverse=True)
    assert shares[0] == pytest.approx(0.97 / (0.97 + 0.43))


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "positive", "negative"),
    [(0.0, 1.0, None, 0.8), (1.0, 0.0, 0.2, None), (1.0, 1.0, 1.0, 1.0)],
)
def test_a_value_over_no_lesions_is_none(
    sensitivity: float, specificity: float, positive: float | None, negative: float | None
) -> None:
    found = predictive_values(sensitivity, specificity, 0.2)
    assert (found.positive, found.negative) == (positive, negative)
