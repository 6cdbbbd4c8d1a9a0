import pytest

from bench.queueing import queue_latencies
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


def test_workers_that_cost_nothing_but_the_work_still_make_a_queue() -> None:
    assert queue_latencies([0.0, 0.0, 0.0, 9.0], cores=1, at_a_time=1, seconds=2) == [2, 4, 6, 2]
    assert queue_latencies([0.0, 0.0, 0.0, 9.0], cores=2, at_a_time=2, seconds=2) == [2, 2, 4, 2]


def test_requests_that_share_cores_finish_together_not_in_turn() -> None:
    assert queue_latencies([0.0, 0.0], cores=1, at_a_time=2, seconds=1) == [2, 2]
    assert queue_latencies([0.0, 0.0], cores=1, at_a_time=1, seconds=1) == [1, 2]
    assert queue_latencies([0.0, 0.0], cores=2, at_a_time=2, seconds=1) == [1, 1]
    assert queue_latencies([0.0] * 3, cores=2, at_a_time=3, seconds=1) == pytest.approx([1.5] * 3)
    assert queue_latencies([0.0, 0.5, 9.0], cores=1, at_a_time=2, seconds=1) == pytest.approx([1.5, 1.5, 1])
