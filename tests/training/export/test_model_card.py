"""``training.export.model_card``: the card contains what the manifest contains."""

from pathlib import Path
from typing import Any

import pytest

from models.bundle import Interval, Manifest, Member, Subgroup
from models.labels import HAM10000_LABELS
from models.metadata import Comparison
from tests.tiny_bundle import tiny_manifest, tiny_metadata_input
from training.data.dataset import classes_of
from training.export.graph import Parity
from training.export.model_card import write_model_card

HALF = Interval(value=0.5, low=0.4, high=0.6)

PARITY = Parity({1: 2.5e-6, 7: 1e-6}, 4e-5)


def _card(folder: Path, manifest: Manifest) -> str:
    write_model_card(folder / "MODEL_CARD.md", manifest, PARITY)
    return (folder / "MODEL_CARD.md").read_text(encoding="utf-8")


def _manifest(classes: Any = HAM10000_LABELS, **changes: Any) -> Manifest:
    return tiny_manifest("rgb", 224, 224, classes, **changes)


def _sections(card: str) -> dict[str, str]:
    parts = card.split("\n## ")
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts[1:]}


def test_a_card_has_every_part_of_the_manifest(tmp_path: Path) -> None:
    manifest = _manifest(
        metrics={
            "accuracy_rule": Interval(value=0.77, low=0.75, high=0.80),
            "accuracy_argmax": Interval(value=0.81, low=0.79, high=0.83),
            "precision_mel": Interval(value=0.42, low=0.36, high=0.49),
        },
        subgroups=(
            Subgroup(
                factor="age",
                value="60+",
                images=321,
                metrics={"malignancy_auc": Interval(value=0.9, low=0.8, high=0.95)},
            ),
        ),
        limits=("Knows seven diagnoses.",),
        citation="Somebody, 2026",
    )
    card = _card(tmp_path, manifest)
    found = _sections(card)
    assert manifest.intended_use in card
    measured = found["Measured on the test part"]
    assert "| Accuracy | 0.770 [0.750, 0.800] |" in measured
    assert "| Accuracy of the most probable class (arg-max) | 0.810 [0.790, 0.830] |" in measured
    assert "| mel | 0.420 [0.360, 0.490] | – | – |" in measured
    assert "Wilson" in measured
    assert "| age 60+ | 321 | – | – | – | – | 0.900 [0.800, 0.950] |" in found["By age, sex and site"]
    for code in manifest.codes:
        assert f"| {code} | 0.1000 | 0.500 [0.400, 0.600] |" in found["Prediction sets"]
    assert "1.500 [1.400, 1.600] classes" in found["Prediction sets"]
    assert "the label, and the most probable class" in found["Prediction sets"]
    assert "distance from skin above 1" in found["Warnings"]
    assert "- Knows seven diagnoses." in found["Limits"]
    assert "Somebody, 2026" in found["Licence and citation"]
    assert "2.5e-06" in found["Model"]


def test_a_card_keeps_its_external_tests_when_it_is_written_again(tmp_path: Path) -> None:
    path, text = tmp_path / "MODEL_CARD.md", "### Clinic A\n\n| figure | 1.0.0 |"
    write_model_card(path, _manifest(), PARITY, external_tests=text)
    assert _sections(path.read_text(encoding="utf-8"))["External tests"].strip() == text
    first = path.read_text(encoding="utf-8")
    write_model_card(path, _manifest(), None)
    assert path.read_text(encoding="utf-8") == first
    assert "External tests" not in _sections(_card(tmp_path, _manifest()))


def test_a_card_states_predictive_values(tmp_path: Path) -> None:
    values = {"sensitivity": 0.9, "specificity": 0.6, "prevalence": 0.2}
    metrics = {f"malignancy_{name}": Interval(value=v, low=v, high=v) for name, v in values.items()}
    found = _sections(_card(tmp_path, _manifest(metrics=metrics)))["Classes and decisions"]
    assert "| 20.0 | 36.0 | 4.0 |" in found  # 0.18 of 0.18 + 0.32, and 0.02 of 0.02 + 0.48
    assert "| 5.0 | 10.6 | 0.9 |" in found
    without = _sections(_card(tmp_path, _manifest(metrics={})))["Classes and decisions"]
    assert "| 20.0 |" not in without
    assert "| 5.0 | 8.7 | 1.0 |" in without  # of the operating point's 0.9 and 0.5


def test_a_card_of_an_older_manifest_marks_its_accuracy_as_argmax(
    tmp_path: Path,
) -> None:
    metrics = {"accuracy": Interval(value=0.83, low=0.81, high=0.85)}
    group = Subgroup(factor="sex", value="female", images=600, metrics=metrics)
    found = _sections(_card(tmp_path, _manifest(metrics=metrics, subgroups=(group,))))
    title = "Accuracy of the most probable class (arg-max)"
    assert f"| {title} | 0.830 [0.810, 0.850] |" in found["Measured on the test part"]
    groups = found["By age, sex and site"]
    assert "Wilson" not in found["Measured on the test part"] + groups  # its intervals are percentiles
    assert "malignancy auc | accuracy (arg-max) |" in groups
    assert "| sex female | 600 | – | – | – | – | – | 0.830 [0.810, 0.850] |" in groups


def test_tables_keep_their_number_of_columns(tmp_path: Path) -> None:
    for block in _card(tmp_path, _manifest()).split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


def test_a_card_of_one_network_for_two_classes_mentions_no_members(tmp_path: Path) -> None:
    alone = (Member(name="only", weight=1.0, temperature=1.2, parameters=10),)
    card = _card(tmp_path, _manifest(classes_of("malignancy").labels, members=alone, subgroups=()))
    assert "- One network: only" in card
    assert "members disagree" not in card
    assert "By age, sex and site" not in card
    assert "| malignant | Malignant lesion | malignant | 0.500 |" in card


@pytest.mark.parametrize(
    ("combination", "words"),
    [("mean", "Weighted mean"), ("vote", "Majority vote"), ("specialists", "decide between")],
)
def test_a_card_states_the_combination(tmp_path: Path, combination: str, words: str) -> None:
    members = [Member(name=name, weight=0.5, temperature=1.0, parameters=10) for name in ("first", "second")]
    if combination == "specialists":
        members[1] = members[1].model_copy(update={"classes": ("mel", "nv")})
    card = _card(tmp_path, _manifest(combination=combination, members=tuple(members)))
    assert words in _sections(card)["Model"]


def test_a_card_compares_metrics_with_and_without_metadata(tmp_path: Path) -> None:
    young = Comparison(images=31, metrics={"ece": HALF}, image_only={"ece": HALF})
    spec = tiny_metadata_input().model_copy(update={"under_40": young})
    section = _sections(_card(tmp_path, _manifest(metadata=spec)))["With age, sex and site"]
    assert "70 test images" in section
    assert "31 of them of patients under 40" in section
    assert "| balanced accuracy | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] |" in section
    assert "| under 40: expected calibration error |" in section
    assert "| mel | 0.500" in section
    assert "flagged from 0.2500" in section
    assert "With age, sex and site" not in _sections(_card(tmp_path, _manifest()))
