"""A run folder: the files that one training writes.

recipe.json         the recipe with the options applied
environment.json    git revisions that trained it, seed, backend, versions
split.csv           which image was in which part
<member>/           network.keras history.csv curves.png start.json, and what a resume needs
calibration.json    temperatures, decision rule, malignancy threshold (validation only)
*_answers-*.npz     the members' outputs for some of train, for validation and, once, for test
metadata.json       adjustment by age, sex and site, if the predictions use them
safeguards.*        prediction sets, out-of-distribution score, image quality, drift reference
evaluation/         metrics.json test.npz validation.npz report.md and plots
bundle/             the exported model
"""

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import TypeAdapter

from training.data.dataset import Classes, DataError, Row, classes_of, read_dataset
from training.data.pixels import load_pixels
from training.data.split import SplitBy, read_split, rows_of, write_split
from training.recipe import MemberRecipe, Recipe, RecipeError

_RECIPE = TypeAdapter(Recipe)
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
            # A recipe may have got another name since; what it trains is the same.
            same_recipe = replace(run.recipe, name=recipe.name) == recipe
            if not same_recipe or run.seed != seed or not same_split:
                raise RecipeError(
                    f"{folder} holds a run of another recipe, seed or split; choose another folder"
                )
            run = replace(run, data=data, cache=cache)  # they may have moved
            places = {"data": str(data.resolve()), "cache": str(cache.resolve())}
            write_json(folder / "environment.json", run.environment | places)
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
            recipe=_RECIPE.validate_python(read_json(folder / "recipe.json")),
            data=Path(environment["data"]),
            seed=environment["seed"],
            cache=Path(environment["cache"]),
        )

    def note_member(self, member: MemberRecipe, precision: str) -> None:
        """Write what ``member`` starts from, and its training's arithmetic, into its folder."""
        start: dict[str, str] = {"starting_weights": member.starting_weights, "precision": precision}
        file = Path(member.starting_weights)
        if file.is_file():
            start |= {"starting_weights": file.name, "sha256": sha256(file.read_bytes()).hexdigest()}
        write_json(self.folder / member.name / "start.json", start)

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

    @property
    def classes(self) -> Classes:
        """The classes of the recipe's task."""
        return classes_of(self.recipe.task)

    def part(self, part: str) -> list[Row]:
        """Rows of one part of the split, at the recipe's sites.

        Raises:
            DataError: a class of the task has no image among them.
        """
        sites = self.recipe.sites
        rows = rows_of(self.rows, read_split(self.folder / "split.csv", self.rows), part)
        rows = [row for row in rows if not sites or row.localization in sites]
        found = self.classes.indices([row.dx for row in rows])
        missing = [code for index, code in enumerate(self.classes.codes) if index not in found]
        if missing:
            where = f" at {', '.join(sites)}" if sites else ""
            raise DataError(f"{part}: no image of {', '.join(missing)}{where}; every class needs some")
        return rows

    @property
    def split_by(self) -> SplitBy:
        """``"lesion"``, or ``"image"`` where photographs of one lesion may lie in several parts."""
        return read_split(self.folder / "split.csv", self.rows).by

    def labels(self, part: str) -> np.ndarray:
        """Class indices int ``[N]`` of one part."""
        return self.classes.indices([row.dx for row in self.part(part)])

    def pixels(self, part: str, size: tuple[int, int]) -> np.ndarray:
        """Images uint8 ``[N, height, width, C]`` of one part."""
        height, width = size
        return load_pixels(
            self.part(part), height=height, width=width, color=self.recipe.color, cache=self.cache
        )

    def chosen(self, member: MemberRecipe, part: str) -> np.ndarray:
        """Which images of a part ``member`` trains on, as indices: all, or those of its classes."""
        labels = self.labels(part)
        if not member.classes:
            return np.arange(len(labels))
        wanted = [self.classes.codes.index(code) for code in member.classes]
        return np.flatnonzero(np.isin(labels, wanted))

    def member_labels(self, member: MemberRecipe, part: str) -> np.ndarray:
        """Indices into the member's own classes, int, of the images in ``chosen``."""
        labels: np.ndarray = self.labels(part)[self.chosen(member, part)]
        if not member.classes:
            return labels
        wanted = [self.classes.codes.index(code) for code in member.classes]
        return np.array([wanted.index(label) for label in labels])

    def class_count(self, member: MemberRecipe) -> int:
        """Number of classes that ``member`` answers."""
        return len(member.classes) or len(self.classes.codes)

    @property
    def training_prior(self) -> dict[str, float]:
        """Share of each class among the training images."""
        codes = self.classes.codes
        counts = np.bincount(self.labels("train"), minlength=len(codes))
        return {code: float(n) for code, n in zip(codes, counts / counts.sum(), strict=True)}


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
