"""A run folder: the files of one training.

recipe.json         the recipe with the options applied
environment.json    git revisions of the code, seed, backend, versions
split.csv           the part of each image
<member>/           network.keras history.csv curves.png start.json, and the checkpoint
calibration.json    temperatures, decision rule, malignancy threshold
*_answers-*.npz     the members' outputs for some training images, for validation and for test
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
    """A run folder with its recipe, environment and split.

    Attributes:
        folder: the run folder.
        recipe: the recipe with the options applied.
        data: folder of the data set.
        seed: seed of initialisation, sampling and augmentation.
        cache: folder of the decoded images.
    """

    folder: Path
    recipe: Recipe
    data: Path
    seed: int
    cache: Path

    @staticmethod
    def create(folder: Path, recipe: Recipe, *, data: Path, split: Path, seed: int, cache: Path) -> "Run":
        """Create a run in ``folder``, or open the one there if it has the same recipe, seed and split.

        Args:
            folder: the run folder.
            recipe: the recipe with the options applied.
            data: folder of the data set.
            split: split file, which is copied to the run folder.
            seed: seed of initialisation, sampling and augmentation.
            cache: folder for the decoded images.

        Raises:
            RecipeError: ``folder`` holds a run with another recipe, seed or split.
            DataError: the data set or the split cannot be used.
        """
        folder.mkdir(parents=True, exist_ok=True)
        rows = read_dataset(data)
        parts = read_split(split, rows)
        if (folder / "recipe.json").is_file():
            run = Run.open(folder)
            same_split = read_split(folder / "split.csv", rows) == parts
            # A recipe that was renamed since is still the same recipe.
            same_recipe = replace(run.recipe, name=recipe.name) == recipe
            if not same_recipe or run.seed != seed or not same_split:
                raise RecipeError(
                    f"{folder}: holds a run with another recipe, seed or split; choose another folder"
                )
            run = replace(run, data=data, cache=cache)  # the folders may have been moved
            paths = {"data": str(data.resolve()), "cache": str(cache.resolve())}
            write_json(folder / "environment.json", run.environment | paths)
            run._add_revision()
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
        run._add_revision()
        return run

    @staticmethod
    def open(folder: Path) -> "Run":
        """Open the run in ``folder``.

        Raises:
            RecipeError: ``folder`` does not hold a run.
        """
        if not (folder / "recipe.json").is_file():
            raise RecipeError(f"{folder}: not a run; `python -m training train` creates one")
        environment = read_json(folder / "environment.json")
        return Run(
            folder=folder,
            recipe=_RECIPE.validate_python(read_json(folder / "recipe.json")),
            data=Path(environment["data"]),
            seed=environment["seed"],
            cache=Path(environment["cache"]),
        )

    def note_member(self, member: MemberRecipe, precision: str) -> None:
        """Write ``start.json`` with the starting weights and the precision of ``member``."""
        start: dict[str, str] = {"starting_weights": member.starting_weights, "precision": precision}
        file = Path(member.starting_weights)
        if file.is_file():
            start |= {"starting_weights": file.name, "sha256": sha256(file.read_bytes()).hexdigest()}
        write_json(self.folder / member.name / "start.json", start)

    def _add_revision(self) -> None:
        """Add the revision of this code to ``environment.json``, and set the backend."""
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
        """Return the rows of one part of the split that the recipe uses.

        Raises:
            DataError: a class of the task has no image there.
        """
        sites = self.recipe.sites
        rows = rows_of(self.rows, read_split(self.folder / "split.csv", self.rows), part)
        rows = [row for row in rows if not sites or row.localization in sites]
        if self.recipe.known_metadata:
            rows = [row for row in rows if row.age and "unknown" not in (row.sex, row.localization)]
        found = self.classes.indices([row.dx for row in rows])
        missing = [code for index, code in enumerate(self.classes.codes) if index not in found]
        if missing:
            where = f" at {', '.join(sites)}" if sites else ""
            raise DataError(f"{part}: no image of {', '.join(missing)}{where}; every class needs images")
        return rows

    @property
    def split_by(self) -> SplitBy:
        """``"lesion"``, or ``"image"`` if images of one lesion may be in several parts."""
        return read_split(self.folder / "split.csv", self.rows).by

    def labels(self, part: str) -> np.ndarray:
        """Return the class indices, int64 ``[N]``, of one part."""
        return self.classes.indices([row.dx for row in self.part(part)])

    def pixels(self, part: str, size: tuple[int, int]) -> np.ndarray:
        """Return the images, uint8 ``[N, height, width, C]``, of one part; ``size`` is (height, width)."""
        height, width = size
        return load_pixels(
            self.part(part), height=height, width=width, color=self.recipe.color, cache=self.cache
        )

    def chosen(self, member: MemberRecipe, part: str) -> np.ndarray:
        """Return the indices of the images of a part that ``member`` uses: all, or those of its classes."""
        labels = self.labels(part)
        if not member.classes:
            return np.arange(len(labels))
        wanted = [self.classes.codes.index(code) for code in member.classes]
        return np.flatnonzero(np.isin(labels, wanted))

    def member_labels(self, member: MemberRecipe, part: str) -> np.ndarray:
        """Return the indices into the member's own classes, int, of the images in ``chosen``."""
        labels: np.ndarray = self.labels(part)[self.chosen(member, part)]
        if not member.classes:
            return labels
        wanted = [self.classes.codes.index(code) for code in member.classes]
        return np.array([wanted.index(label) for label in labels])

    def class_count(self, member: MemberRecipe) -> int:
        """Return the number of classes that ``member`` predicts."""
        return len(member.classes) or len(self.classes.codes)

    @property
    def training_prior(self) -> dict[str, float]:
        """Share of each class among the training images."""
        codes = self.classes.codes
        counts = np.bincount(self.labels("train"), minlength=len(codes))
        return {code: float(n) for code, n in zip(codes, counts / counts.sum(), strict=True)}


def git_revision() -> str:
    """Return the git revision of this code, with ``-dirty`` if files were changed, or "unknown"."""
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
    """Write ``content`` as JSON to ``path``, atomically."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read the JSON object in ``path``."""
    return cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
