"""A run folder: everything that one training leaves behind, and where each thing lies.

recipe.json         the recipe with the options applied
environment.json    git revisions that trained it, seed, backend, versions
split.csv           which image was in which part
<member>/           network.keras history.csv curves.png, and what a resume needs
calibration.json    temperatures, decision rule, malignancy threshold (validation only)
*_logits-*.npy      the members' answers on validation and, once, on test
evaluation/         metrics.json report.md and plots
bundle/             the exported model
"""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import numpy as np

from training.data import CODES, Row, read_dataset
from training.pixels import load_pixels
from training.recipe import Augmentation, MemberRecipe, Phase, Recipe, RecipeError
from training.split import read_split, rows_of, write_split

_PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "pillow", "tf2onnx", "onnxruntime")


@dataclass(frozen=True)
class Run:
    """A run folder that has its recipe, environment and split."""

    folder: Path
    recipe: Recipe
    data: Path
    seed: int
    cache: Path

    @staticmethod
    def create(folder: Path, recipe: Recipe, *, data: Path, split: Path, seed: int, cache: Path) -> "Run":
        """Start a run, or take up the one in ``folder`` if it is the same.

        Raises:
            RecipeError: ``folder`` holds a run of another recipe, seed or split.
        """
        folder.mkdir(parents=True, exist_ok=True)
        rows = read_dataset(data)
        parts = read_split(split, rows)
        if (folder / "recipe.json").is_file():
            run = Run.open(folder)
            same_split = read_split(folder / "split.csv", rows) == parts
            if run.recipe != recipe or run.seed != seed or not same_split:
                raise RecipeError(
                    f"{folder} holds a run of another recipe, seed or split; choose another folder"
                )
            run._note_revision()
            return run
        write_split(folder / "split.csv", rows, parts)
        environment = {
            "git_revisions": [],
            "seed": seed,
            "data": str(data.resolve()),
            "cache": str(cache.resolve()),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "versions": _versions(),
        }
        write_json(folder / "environment.json", environment)
        write_json(folder / "recipe.json", asdict(recipe))
        run = Run.open(folder)
        run._note_revision()
        return run

    @staticmethod
    def open(folder: Path) -> "Run":
        """The run in ``folder``.

        Raises:
            RecipeError: there is none.
        """
        if not (folder / "recipe.json").is_file():
            raise RecipeError(f"{folder}: no run here; `python -m training train` starts one")
        environment = read_json(folder / "environment.json")
        return Run(
            folder=folder,
            recipe=_recipe_from(read_json(folder / "recipe.json")),
            data=Path(environment["data"]),
            seed=environment["seed"],
            cache=Path(environment["cache"]),
        )

    def _note_revision(self) -> None:
        """Add this code's revision and backend to those that had a part in the run."""
        environment = self.environment
        revision = git_revision()
        if revision not in environment["git_revisions"]:
            environment["git_revisions"].append(revision)
        environment["backend"] = os.environ.get("KERAS_BACKEND", "tensorflow")
        write_json(self.folder / "environment.json", environment)

    @property
    def environment(self) -> dict[str, Any]:
        """The contents of ``environment.json``."""
        return read_json(self.folder / "environment.json")

    @cached_property
    def rows(self) -> list[Row]:
        """All rows of the data set."""
        return read_dataset(self.data)

    def part(self, part: str) -> list[Row]:
        """Rows of one part of the split."""
        return rows_of(self.rows, read_split(self.folder / "split.csv", self.rows), part)

    def labels(self, part: str) -> np.ndarray:
        """Class indices int ``[N]`` of one part."""
        return np.array([row.label for row in self.part(part)])

    def pixels(self, part: str, size: int) -> np.ndarray:
        """Images uint8 ``[N, size, size, 3]`` of one part."""
        return load_pixels(self.part(part), height=size, width=size, cache=self.cache)

    @property
    def training_prior(self) -> dict[str, float]:
        """Share of each class among the training images."""
        counts = np.bincount(self.labels("train"), minlength=len(CODES))
        return {code: float(n) for code, n in zip(CODES, counts / counts.sum(), strict=True)}


def git_revision() -> str:
    """The revision of this code, marked ``-dirty`` when the tree was changed; "unknown" outside git."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no", "--", here.parent.as_posix())
        return git("rev-parse", "HEAD") + ("-dirty" if dirty else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` so that a reader sees the old file or the new one, never half."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``."""
    return cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _recipe_from(content: dict[str, Any]) -> Recipe:
    def augmentation(found: dict[str, Any] | None) -> Augmentation | None:
        return Augmentation(**found) if found else None

    members = tuple(
        MemberRecipe(
            **{
                **member,
                "phases": tuple(Phase(**phase) for phase in member["phases"]),
                "augmentation": augmentation(member.get("augmentation")),
            }
        )
        for member in content["members"]
    )
    return Recipe(**{**content, "members": members, "augmentation": Augmentation(**content["augmentation"])})


def image_counts(parts: Mapping[str, Sequence[Row]]) -> tuple[dict[str, int], dict[str, int]]:
    """Number of images and of lesions in each part."""
    images = {part: len(rows) for part, rows in parts.items()}
    lesions = {part: len({row.lesion_id for row in rows}) for part, rows in parts.items()}
    return images, lesions
