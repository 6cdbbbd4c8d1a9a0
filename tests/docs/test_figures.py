"""Figures in the README are those of the bundle that ships."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from models.bundle import load_bundle
from models.manifest.predictive import predictive_values_of
from tests.docs.pages import page, table

README = page("README.md")


@pytest.fixture(scope="module")
def manifest(shipped_bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shipped_bundle / "manifest.json").read_text())
    return found


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def stated(manifest: dict[str, Any], *names: str) -> str:
    metrics = (manifest["metrics"][name] for name in names)
    return "; ".join(f"{m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]" for m in metrics)


def test_the_readme_states_the_label_and_the_flag_that_the_api_returns(
    manifest: dict[str, Any], shipped_bundle: Path
) -> None:
    *figures, (worth, values) = table(section("How good it is"))
    assert [value for _, value in figures] == [
        stated(manifest, "accuracy_rule"),
        stated(manifest, "balanced_accuracy"),
        stated(manifest, "precision_mel"),
        stated(manifest, "recall_mel"),
        stated(manifest, "malignancy_sensitivity", "malignancy_specificity"),
    ]
    found = predictive_values_of(load_bundle(shipped_bundle).manifest)
    assert values == "; ".join(f"{100 * (at.positive or 0):.0f}" for at in found)
    assert [float(number) for number in re.findall(r"([\d.]+) %", worth)] == [
        round(100 * at.prevalence, 1) for at in found
    ]


def test_the_readme_names_the_model_its_data_and_its_coverage(manifest: dict[str, Any]) -> None:
    text = section("How good it is")
    data, sets = manifest["data"], manifest["prediction_sets"]["measured"]
    assert f"{manifest['name']} {manifest['version']}" in text
    assert f"{data['images']['test']:,} images of {data['lesions']['test']:,} lesions" in text
    assert f"{sets['overall']['value']:.3f} overall, {sets['mel']['value']:.3f} for melanoma" in text


def test_the_readme_has_the_classes_of_the_bundle(manifest: dict[str, Any]) -> None:
    assert table(section("Ask it")) == [
        [f"`{c['code']}`", c["name"], "malignant" if c["malignant"] else "benign"]
        for c in manifest["classes"]
    ]


def test_test_images_with_a_twin_are_in_the_test_part_and_their_twins_are_not(shipped_bundle: Path) -> None:
    log = page("docs/training-log.md").partition("\n## Near-duplicates\n")[2].partition("\n## ")[0]
    lines = (shipped_bundle / "split.csv").read_text().splitlines()[1:]
    part = {line.split(",")[0]: line.split(",")[3] for line in lines}
    rows = table(log)
    assert len(rows) == 9
    for image, _, twins, where in rows:
        assert part[image] == "test"
        assert {part[twin] for twin in twins.split(", ")} == {where}
