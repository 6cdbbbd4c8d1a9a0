"""Run folders with synthetic predictions, for comparisons, which only read the files of a run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.preprocess import decode
from models.scaling import Color
from tests.tiny_bundle import write_tiny_bundle
from training.data.dataset import Row, Task, classes_of
from training.export.runtime import run_graph
from training.metrics.predictions import save_predictions
from training.metrics.scores import Predictions

HISTORY = """\
phase,epoch,seconds,learning_rate,train_loss,loss,accuracy,balanced_accuracy
0,0,10.5,0.001,2.0,1.9,0.4,0.3
1,0,20.0,0.0001,1.5,1.4,0.6,0.5
"""


def synthetic_rows(count: int, *, lesions: str = "L") -> list[Row]:
    """Return rows without files, of the seven classes in turn, with two images per lesion."""
    codes = classes_of("diagnosis").codes
    return [
        Row(f"{lesions}-{i:05d}", f"{lesions}{i // 14}-{i % 7}", codes[i % 7], "histo", 50.0, "male", "back",
            Path("nowhere"))
        for i in range(count)
    ]  # fmt: skip


def synthetic_predictions(
    rows: Sequence[Row], *, skill: float, seed: int = 0, task: Task = "diagnosis"
) -> Predictions:
    """Return predictions of which about the share ``skill`` is correct."""
    rng = np.random.default_rng(seed)
    classes = classes_of(task)
    labels = classes.indices([row.dx for row in rows])
    count = len(classes.codes)
    shown = np.where(rng.random(len(rows)) < skill, labels, rng.integers(0, count, len(rows)))
    probabilities = 0.4 * np.eye(count)[shown] + 0.6 * rng.dirichlet(np.full(count, 3.0), len(rows))
    return Predictions(
        probabilities,
        probabilities.argmax(axis=1),
        labels,
        np.array([row.lesion_id for row in rows]),
        classes.codes,
        classes.malignant,
        0.4,
    )


def write_run(
    folder: Path,
    rows: Sequence[Row],
    ensemble: Predictions,
    members: dict[str, Predictions] | None = None,
    *,
    data: Path = Path("nowhere"),
    history: bool = True,
    **recipe: Any,
) -> Path:
    """Write the folder of an evaluated run; without ``members`` it has one member called "only"."""
    folder.mkdir(parents=True)
    names = list(members or ("only",))
    content = {"name": "synthetic", "image_size": 64, "members": [{"name": name} for name in names]} | recipe
    (folder / "recipe.json").write_text(json.dumps(content))
    (folder / "environment.json").write_text(json.dumps({"data": str(data), "cache": "", "seed": 0}))
    for name in names if history else ():
        (folder / name).mkdir()
        (folder / name / "history.csv").write_text(HISTORY)
    save_predictions(folder / "evaluation" / "test.npz", [r.image_id for r in rows], ensemble, members)
    return folder


def write_run_with_bundle(folder: Path, rows: Sequence[Row], *, data: Path, color: Color = "rgb") -> Path:
    """Write a run whose predictions are those of the tiny bundle in it."""
    bundle = write_tiny_bundle(folder / "bundle-made-first", color=color, height=64, width=64)
    pixels = np.stack(
        [decode(row.path.read_bytes(), height=64, width=64, color=color).pixels for row in rows]
    )
    probabilities = run_graph(bundle.model_path, pixels, batch_size=8)["probabilities"].astype(float)
    predictions = synthetic_predictions(rows, skill=0.5)
    predictions = Predictions(
        probabilities,
        probabilities.argmax(axis=1),
        predictions.labels,
        predictions.lesions,
        predictions.codes,
        predictions.malignant,
        predictions.threshold,
    )
    write_run(folder / "run", rows, predictions, data=data, color=color)
    bundle.path.replace(folder / "run" / "bundle")
    return folder / "run"
