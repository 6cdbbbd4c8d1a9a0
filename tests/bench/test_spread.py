import pytest

from bench.spread import quantile, spread, steady_rate


def test_a_quantile_is_a_value_that_was_measured() -> None:
    latencies = [float(number) for number in range(100, 0, -1)]
    assert quantile(latencies, 0.5) == 50
    assert quantile(latencies, 0.99) == 99
    assert quantile(latencies, 1) == 100
    assert quantile(latencies, 0) == 1
    assert quantile([3.0], 0.99) == 3


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.5), ([1.0], -0.1)])
def test_a_quantile_of_nothing_or_beyond_all_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="expected values and a share within"):
        quantile(values, share)


def test_a_spread_has_the_median_the_least_and_the_most() -> None:
    assert spread([0.9, 1.2, 1.0, 1.1]) == (1.05, 0.9, 1.2, 4)
    with pytest.raises(ValueError, match="at least one value"):
        spread([])


def test_the_rate_of_clients_that_ask_again_at_once_is_their_number_over_a_round() -> None:
    assert steady_rate([0.5, 0.5, 0.5], at_a_time=1) == pytest.approx(2)
    assert steady_rate([1.0, 3.0], at_a_time=4) == pytest.approx(2)
    with pytest.raises(ValueError, match="measure longer"):
        steady_rate([], at_a_time=1)
