import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.train import TrainingBenchmarkError, installed_version, main
from bench.train_once import Moment, distinct_phases, rates, short_recipe
from bench.train_report import markdown, summary
from training.catalogue import load_recipe
from training.recipe import adjust

_TINY = """
from training.recipe import Block, MemberRecipe, Phase, Recipe, ScratchCNN

PHASES = (Phase("head", 3, 1e-3, image_size=16), Phase("all", 4, 1e-3), Phase("all", 2, 1e-4))
MEMBER = MemberRecipe("cnn", ScratchCNN((Block(4),)), PHASES)
RECIPE = Recipe("tiny", (MEMBER,), image_size=24, batch_size=8)
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.py"
    file.write_text(_TINY)
    return file


def test_it_trains_for_real_and_writes_ratios_and_figures(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DERMASERVE_HAM10000", raising=False)
    monkeypatch.setattr("bench.train.installed_version", {"tensorflow": "2.21.0"}.get)
    out = tmp_path / "found" / "train"
    status = main(["--recipe", str(tiny), "--repetitions", "1", "--steps", "3", "--out", str(out)])
    assert status == 0, capsys.readouterr().err
    found = json.loads(out.with_suffix(".json").read_text())
    assert [(f["trainable"], f["size"], f["epochs"]) for f in found["figures"]] == [
        ("head", [16, 16], 3),
        ("all", [24, 24], 6),
    ]
    for figure in found["figures"]:
        assert figure["images_per_second"]["median"] > 0
        assert 0 <= figure["waiting"]["median"] < 1
        # Starting Python and Keras takes longer than the step that ends it.
        assert figure["start_to_first_step_seconds"]["median"] > found["runs"][0]["phases"][0]["first_step"]
    text = out.with_suffix(".md").read_text()
    assert capsys.readouterr().out == text + "\n"
    assert "jax (not installed), torch (not installed)" in text
    assert re.search(
        r"\| cnn \| head \| 16 × 16 \| tensorflow \| [0-9.]+ \[[0-9.]+, [0-9.]+\] \| 1.00 \[1.00, 1.00\] \|",
        text,
    )


def test_a_training_that_fails_is_told_with_its_words(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DERMASERVE_HAM10000", raising=False)
    monkeypatch.setattr("bench.train.BACKENDS", ("abacus",))
    monkeypatch.setattr("bench.train.installed_version", lambda name: "1.0")
    assert main(["--recipe", str(tiny), "--out", str(tmp_path / "train")]) == 2
    said = capsys.readouterr().err
    assert "error: training with abacus failed" in said
    assert "Unable to import backend" in said
    assert not list(tmp_path.glob("train.*"))


def test_a_run_that_is_cut_off_keeps_the_repetitions_before(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DERMASERVE_HAM10000", raising=False)
    monkeypatch.setattr("bench.train.installed_version", {"tensorflow": "2.21.0"}.get)
    done = iter([_runs("tensorflow", 0, 10.0, 2)])

    def train_once(backend: str, options: dict[str, Any]) -> dict[str, Any]:
        for found in done:
            return found
        raise TrainingBenchmarkError("the power was cut")

    monkeypatch.setattr("bench.train._train_once", train_once)
    out = tmp_path / "train"
    assert main(["--recipe", str(tiny), "--repetitions", "2", "--out", str(out)]) == 2
    assert "the power was cut" in capsys.readouterr().err
    assert [run["repetition"] for run in json.loads(out.with_suffix(".json").read_text())["runs"]] == [0]
    assert "Medians of 1 interleaved repetitions" in out.with_suffix(".md").read_text()


def test_a_package_that_is_not_there_has_no_version() -> None:
    assert installed_version("numpy")
    assert installed_version("no-such-backend") is None


def test_waiting_counts_what_lies_between_asking_and_getting() -> None:
    moments = [Moment(0.0, 1.0, 8), Moment(3.0, 3.5, 8), Moment(5.0, 9.0, 8)]
    # The last batch has no step whose end is known: two batches in five seconds.
    assert rates(moments) == {"images_per_second": 16 / 5, "waiting": 1.5 / 5}


def test_the_short_recipe_has_each_kind_of_phase_once_and_the_steps_asked_for() -> None:
    recipe = short_recipe("ham10000_ensemble", 6, images=500)
    shipped = load_recipe("ham10000_ensemble")
    for short, member in zip(recipe.members, shipped.members, strict=True):
        assert list(distinct_phases(short, recipe)) == list(distinct_phases(member, shipped))
        assert len(short.phases) == len(distinct_phases(member, shipped))
        assert short.starting_weights == "none"
    assert round(500 * recipe.epoch_size) == 6 * recipe.batch_size


def _runs(backend: str, repetition: int, rate: float, phases: int) -> dict[str, Any]:
    phase = {
        "images_per_second": rate,
        "validation_images_per_second": 2 * rate,
        "waiting": 0.01,
        "first_step": 5.0,
    }
    return {
        "backend": backend,
        "member": "cnn",
        "repetition": repetition,
        "seconds_to_first_step": 100 / rate,
        "devices": ["cpu:0"],
        "phases": [phase] * phases,
    }


def test_backends_are_compared_repetition_by_repetition(tiny: Path) -> None:
    recipe = adjust(load_recipe(str(tiny)), max_epochs=2)
    rates_of = {"tensorflow": (10.0, 20.0, 40.0), "jax": (5.0, 12.0, 40.0)}
    runs = [_runs(name, i, rate, 2) for name, found in rates_of.items() for i, rate in enumerate(found)]
    figures = summary(replace(recipe, epoch_size=0.5), runs)
    tensorflow, jax = figures[:2]
    assert jax["relative"] == {"median": 0.6, "low": 0.5, "high": 1.0, "repetitions": 3}
    assert jax["start_relative"]["median"] == pytest.approx(1 / 0.6)
    assert tensorflow["epoch_minutes"]["median"] == pytest.approx((3504 / 20 + 1498 / 40) / 60)
    found = {
        "machine": {"usable cores": "2", "processor": "Abacus"},
        "recipe": "tiny",
        "backends": {"tensorflow": "2.21.0", "jax": "0.10", "torch": None},
        "real_images": False,
        "training_images": 100,
        "batch_size": 8,
        "figures": figures,
    }
    text = markdown(found)
    assert (
        "| cnn | head | 16 × 16 | jax | 12.0 [5.0, 40.0] | 0.60 [0.50, 1.00] | 1.00% [1.00%, 1.00%] | 5.9 |"
        in text
    )
    assert "torch (not installed)" in text
    assert "All epochs of the recipe, tensorflow = 1: tensorflow 1.00, jax 1.67." in text
