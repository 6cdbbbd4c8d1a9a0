"""Good and hostile requests at the same time; ``make hostile`` sends ten thousand."""

from pathlib import Path
from random import Random

import pytest

from tests.long.arsenal import Arsenal
from tests.long.attacks import KINDS, attack
from tests.long.good_requests import image_files
from tests.long.hostile import run


@pytest.mark.parametrize("keys", [False, True], ids=["anonymous", "with keys"])
def test_good_requests_get_right_results_during_attacks(tiny: Path, keys: bool) -> None:
    files = image_files(seed=1, folder=None, small=True)
    result, _, _ = run(tiny, requests=150, clients=8, seed=7, keys=keys, files=files)
    assert not result.faults, "\n".join([*result.faults, result.table()])
    good = sum(counts[200] for kind, counts in result.outcomes.items() if kind.startswith("good: "))
    assert good == 100


def test_attacks_are_the_same_for_the_same_seed() -> None:
    """An attack that broke something can then be repeated."""
    arsenal = Arsenal([data for _, data in image_files(seed=1, folder=None, small=True)], key="k")
    for kind in KINDS:
        one, other = (attack(Random(3), arsenal, kind) for _ in range(2))
        assert one == other, kind
        assert any(one.sending.pieces), kind
