"""Decodes hundreds of damaged files; ``make fuzz`` tries a hundred thousand."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.preprocess import decode
from tests.long.drawn_files import drawn_dicoms, drawn_files
from tests.long.fuzz import fuzz
from tests.long.fuzz_targets import targets
from tests.long.mutations import mutate

TARGETS = targets(seed=5)


@pytest.mark.parametrize("name", sorted(drawn_files(0, 24, 18)))
def test_every_variant_of_every_accepted_format_is_decoded(name: str) -> None:
    found = decode(drawn_files(0, 24, 18)[name])
    assert found.format == name.partition("-")[0].upper()
    assert sorted([found.width, found.height]) == [18, 24]
    assert found.several_frames == name.endswith(("-animated", "-pages"))


def test_every_variant_of_dicom_is_decoded() -> None:
    pytest.importorskip("pydicom", reason="DICOM files need the extra dicom")
    found = {name: decode(data) for name, data in drawn_dicoms(0, 24, 18).items()}
    assert {(f.format, f.width, f.height) for f in found.values()} == {("DICOM", 24, 18)}
    assert [name for name, f in found.items() if f.several_frames] == ["dicom-grey"]


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_damaged_input_gives_a_result_or_a_clean_refusal(name: str) -> None:
    target, files = TARGETS[name]
    outcomes = set()

    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.integers(min_value=0))
    def try_one(seed: int) -> None:
        outcomes.add(target(mutate(Random(seed), files)))  # raises whatever must not happen

    try_one()
    assert len(outcomes) > 1, outcomes  # neither all refused nor all accepted


def test_the_fuzzer_survives_crashes_and_hangs_of_the_decoder() -> None:
    """Each input is counted exactly once."""
    total = fuzz(seed=3, first=10, count=20, processes=1)
    assert sum(total.outcomes.values()) == 20
    assert not total.faults
