from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.metrics.predictions import PredictionsError, load_predictions, save_predictions
from training.metrics.scores import Predictions, scores


def _predictions(count: int = 40, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    probabilities = rng.dirichlet((1, 1, 1), count)
    return Predictions(
        probabilities,
        probabilities.argmax(axis=1),
        labels,
        np.array([f"lesion-{i // 2}-{label}" for i, label in enumerate(labels)]),
        ("a", "b", "c"),
        np.array([True, False, False]),
        0.25,
    )


_IDS = [f"image-{i}" for i in range(40)]


def test_saved_predictions_are_read_back(tmp_path: Path) -> None:
    ensemble = _predictions()
    members = {
        "one": replace(ensemble, probabilities=_predictions(seed=1).probabilities),
        "two": replace(ensemble, decided=np.ones(40, int)),
    }
    save_predictions(tmp_path / "evaluation" / "test.npz", _IDS, ensemble, members)
    found = load_predictions(tmp_path / "evaluation" / "test.npz")
    assert found.image_id.tolist() == _IDS
    assert (found.codes, found.threshold, found.members) == (("a", "b", "c"), 0.25, ("one", "two"))
    assert found.member_probabilities.shape == (2, 40, 3)
    assert scores(found.ensemble) == scores(ensemble)
    assert {name: scores(p) for name, p in found.by_member.items()} == {
        name: scores(p) for name, p in members.items()
    }
    assert not list(tmp_path.rglob("*.part"))


def test_a_run_without_members_that_predict_all_classes_saves_no_members(tmp_path: Path) -> None:
    save_predictions(tmp_path / "test.npz", _IDS, _predictions())
    found = load_predictions(tmp_path / "test.npz")
    assert found.by_member == {}
    assert found.member_probabilities.shape == (0, 40, 3)


def test_a_missing_file_names_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match="python -m training evaluate"):
        load_predictions(tmp_path / "test.npz")


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", image_id=np.array([{}], dtype=object))
    with pytest.raises(PredictionsError, match="not a readable file"):
        load_predictions(tmp_path / "test.npz")


def test_a_damaged_or_incomplete_file_is_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    save_predictions(whole, _IDS, _predictions())
    (tmp_path / "half.npz").write_bytes(whole.read_bytes()[:500])
    with pytest.raises(PredictionsError, match=r"half\.npz: not a readable file"):
        load_predictions(tmp_path / "half.npz")
    (tmp_path / "empty.npz").touch()
    with pytest.raises(PredictionsError, match=r"empty\.npz: not a readable file"):
        load_predictions(tmp_path / "empty.npz")
    with (tmp_path / "bare.npz").open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(PredictionsError, match=r"bare\.npz: not a readable file"):
        load_predictions(tmp_path / "bare.npz")
    np.savez(tmp_path / "other.npz", labels=np.zeros(3))
    with pytest.raises(PredictionsError, match="arrays missing: codes, decided"):
        load_predictions(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("ids", "change", "message"),
    [
        (_IDS[:-1], {}, r"image_id: expected the shape \[40\], got \[39\]"),
        (["twice"] * 40, {}, "an image occurs twice"),
        (_IDS, {"decided": np.full(40, 3)}, "decided: expected 0 to 2, got 3 to 3"),
        (_IDS, {"probabilities": np.full((40, 3), np.nan)}, "expected numbers from 0 to 1"),
    ],
)
def test_inconsistent_predictions_are_not_saved(
    tmp_path: Path, ids: list[str], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(PredictionsError, match=message):
        save_predictions(tmp_path / "test.npz", ids, replace(_predictions(), **change))
    assert not list(tmp_path.iterdir())
