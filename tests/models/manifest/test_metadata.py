"""``MetadataInput``: known values set their columns, and nothing else does."""

import pytest
from pydantic import ValidationError

from models.bundle import Interval
from models.manifest.metadata import Metadata, MetadataInput
from models.manifest.safeguards import PredictionSets

HALF = Interval(value=0.5, low=0.4, high=0.6)


def spec(**changes: object) -> MetadataInput:
    measured = {"overall": HALF, "mel": HALF, "nv": HALF}
    facts = {
        "ages": (0, 40, 60),
        "sexes": ("female", "male"),
        "sites": ("back", "face"),
        "weight": 0.5,
        "threshold": 0.1,
        "target_sensitivity": 0.95,
        "sensitivity": HALF,
        "specificity": HALF,
        "prediction_sets": PredictionSets(
            coverage=0.9, thresholds={"mel": 0.1, "nv": 0.1}, measured=measured, mean_size=HALF
        ),
        "images": 7,
        "metrics": {},
        "image_only": {},
    }
    return MetadataInput.model_validate(facts | changes)


@pytest.mark.parametrize(
    ("metadata", "ones"),
    [
        (Metadata(), []),
        (Metadata(age=0), [0]),
        (Metadata(age=39.5), [0]),
        (Metadata(age=40), [1]),
        (Metadata(age=120), [2]),
        (Metadata(sex="male"), [4]),
        (Metadata(site="back"), [5]),
        (Metadata(age=70, sex="female", site="face"), [2, 3, 6]),
        (Metadata(sex="male", site="ear"), [4]),
    ],
)
def test_known_values_set_their_columns(metadata: Metadata, ones: list[int]) -> None:
    row = spec().encode(metadata)
    assert row.dtype == "float32"
    assert [index for index, value in enumerate(row) if value == 1] == ones
    assert row.sum() == len(ones)


def test_a_value_without_a_column_is_not_known() -> None:
    assert spec().known(Metadata(age=50, sex="male", site="ear")) == Metadata(age=50, sex="male")


@pytest.mark.parametrize(
    "wrong", [{"ages": (10, 20)}, {"ages": (0, 20, 10)}, {"sexes": ("male", "male")}, {"sites": ()}]
)
def test_columns_that_are_ambiguous_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        spec(**wrong)


def test_sets_of_other_classes_are_refused() -> None:
    spec().check(("mel", "nv"))
    with pytest.raises(ValueError, match=r"metadata\.prediction_sets"):
        spec().check(("mel", "bcc"))


@pytest.mark.parametrize(
    "wrong", [{"age": -1}, {"age": 121}, {"age": float("nan")}, {"sex": "m"}, {"site": "leg"}]
)
def test_values_outside_the_contract_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Metadata.model_validate(wrong)


def test_metadata_is_true_if_anything_is_known() -> None:
    assert not Metadata()
    assert Metadata(age=0)


def test_unknown_members_are_left_out_of_the_json() -> None:
    assert Metadata(age=55).model_dump_json() == '{"age":55.0}'
