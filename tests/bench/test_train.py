import json
import re
from pathlib import Path

import pytest

from bench.train import TrainingBenchmarkError, kinds, main, short_recipe
from training.catalogue import load_recipe
from training.recipe import MemberRecipe
from training.run import Run

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
    out = tmp_path / "found" / "train"
    status = main(["--recipe", str(tiny), "--repetitions", "1", "--steps", "3", "--out", str(out)])
    assert status == 0, capsys.readouterr().err
    found = json.loads(out.with_suffix(".json").read_text())
    assert [(f["trainable"], f["size"], f["epochs"]) for f in found["figures"]] == [
        ("head", [16, 16], 3),
        ("all", [24, 24], 6),
    ]
    for figure in found["figures"]:
        assert figure["images_per_second"] > 0
        assert 0 <= figure["waiting"] < 1
        assert figure["epoch_minutes"] > 7009 / figure["images_per_second"] / 60
    text = out.with_suffix(".md").read_text()
    assert capsys.readouterr().out == text + "\n"
    spread = r"[0-9.]+ \([0-9.]+–[0-9.]+\)"
    assert re.search(rf"\| cnn \| head \| 16 × 16 \| {spread} \| {spread} \| {spread} \|", text)


def test_a_training_that_fails_is_told_with_its_words(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DERMASERVE_HAM10000", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "abacus")
    assert main(["--recipe", str(tiny), "--out", str(tmp_path / "train")]) == 2
    said = capsys.readouterr().err
    assert "error: training failed" in said
    assert "Unable to import backend" in said
    assert not list(tmp_path.glob("train.*"))


def test_a_run_that_is_cut_off_keeps_the_repetitions_before(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DERMASERVE_HAM10000", raising=False)
    history = "phase,epoch,seconds,validation_seconds,input_wait\n0,1,2,1,0.1\n1,1,2,1,0.1\n"
    before: list[Run] = []

    def train(run: Run, member: MemberRecipe) -> None:
        if before:
            raise TrainingBenchmarkError("the power was cut")
        before.append(run)
        (run.folder / member.name).mkdir(exist_ok=True)
        (run.folder / member.name / "history.csv").write_text(history)

    monkeypatch.setattr("bench.train._train", train)
    out = tmp_path / "train"
    assert main(["--recipe", str(tiny), "--repetitions", "2", "--out", str(out)]) == 2
    assert "the power was cut" in capsys.readouterr().err
    found = json.loads(out.with_suffix(".json").read_text())
    assert len(found["figures"]) == 2
    assert found["figures"][0]["images_per_second"] == pytest.approx(4 * 8)  # in a second of training
    assert found["figures"][0]["waiting"] == 0.1
    assert "Medians of 1 repetitions" in out.with_suffix(".md").read_text()


def test_the_short_recipe_has_each_kind_of_phase_once_and_the_steps_asked_for() -> None:
    recipe = short_recipe("ham10000_ensemble", 6, images=500)
    shipped = load_recipe("ham10000_ensemble")
    for short, member in zip(recipe.members, shipped.members, strict=True):
        assert list(kinds(short, recipe)) == list(kinds(member, shipped))
        assert len(short.phases) == len(kinds(member, shipped))
        assert short.starting_weights == "none"
    assert round(500 * recipe.epoch_size) == 6 * recipe.batch_size
