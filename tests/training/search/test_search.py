"""Random search: the trials, their table, and the recipe of the best."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

import training.search.search
from tests.synthetic_dataset import write_dataset
from training.catalogue import load_recipe
from training.data.dataset import read_dataset
from training.data.prepare import SPLIT_NAME
from training.data.split import make_split, write_split
from training.fit.loop import TrainingError
from training.recipe import Recipe, RecipeError
from training.run import Run
from training.search.search import SPACE, SearchOptions, search

OPTIONS = SearchOptions(image_size=32, max_epochs=1, epoch_size=0.3)


@pytest.fixture(scope="module", autouse=True)
def eager() -> Iterator[None]:
    """Disable compilation, which takes longer than a step."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset") / "HAM", lesions=4)


@pytest.fixture
def out(tmp_path: Path, data: Path) -> Path:
    rows = read_dataset(data)
    write_split(tmp_path / SPLIT_NAME, rows, make_split(rows, seed=0))
    return tmp_path


def table(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_search_writes_a_table_and_the_best_recipe(data: Path, out: Path) -> None:
    best = search(data, out, OPTIONS, trials=2)
    rows = table(out)
    assert [row["state"] for row in rows] == ["complete", "complete"]
    assert float(rows[0]["loss"]) <= float(rows[1]["loss"])
    assert set(SPACE) <= set(rows[0])
    assert best.name == f"search_trial_{rows[0]['trial']}"
    assert best.optimizer == rows[0]["optimizer"]
    assert load_recipe(str(out / "best.py")) == best
    assert Run.open(out / "trials" / best.name).recipe == best
    assert f"--recipe {(out / 'best.py').as_posix()} " in (out / "best.py").read_text()
    assert not list(out.glob("trials/*/*answers*")), "no part but train and validation is looked at"


def test_a_stopped_search_continues_with_the_same_trials(
    data: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def train(_: Path, out: Path, recipe: Recipe, seed: int) -> dict[str, float]:
        trained.append(recipe.name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        folder = out / "trials" / recipe.name / "scratch"
        folder.mkdir(parents=True)
        epoch = {"loss": 1.0 / len(trained), "accuracy": 0.5, "balanced_accuracy": 0.5, "seconds": 1.0}
        (folder / "state.json").write_text(json.dumps({"history": [epoch]}))
        return epoch

    monkeypatch.setattr(training.search.search, "_train", train)
    with pytest.raises(KeyboardInterrupt):
        search(data, out, OPTIONS, trials=3)
    assert search(data, out, OPTIONS, trials=3).name == "search_trial_2"
    assert trained == [f"search_trial_{number}" for number in (0, 1, 1, 2)]
    drawn = {row["trial"]: [row[key] for key in SPACE] for row in table(out)}

    again = out / "again"
    again.mkdir()
    (again / SPLIT_NAME).write_bytes((out / SPLIT_NAME).read_bytes())
    trained[:] = [""] * 2
    search(data, again, OPTIONS, trials=3)
    assert {row["trial"]: [row[key] for key in SPACE] for row in table(again)} == drawn


def test_a_diverging_trial_fails_without_stopping_the_search(
    data: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object) -> dict[str, float]:
        raise TrainingError("the loss is nan")

    monkeypatch.setattr(training.search.search, "_train", train)
    with pytest.raises(RecipeError, match="all 2 trials failed"):
        search(data, out, OPTIONS, trials=2)
    assert [row["state"] for row in table(out)] == ["fail", "fail"]


def test_a_folder_is_refused_for_a_search_with_other_options(
    data: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(training.search.search, "_train", stop)
    with pytest.raises(KeyboardInterrupt):
        search(data, out, OPTIONS, trials=1)
    with pytest.raises(RecipeError, match="holds a search with other options"):
        search(data, out, SearchOptions(image_size=48), trials=1)
