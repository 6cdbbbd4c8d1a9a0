"""Reads run folders for a comparison.

The recipe is read as plain JSON instead of by ``training.recipe``, so that a run with an older version of the
recipe's fields remains comparable.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.bundle import Bundle, load_bundle
from models.errors import BundleError, DermaserveError
from models.scaling import Color
from training.fit.curves import read_history
from training.metrics.predictions import load_predictions
from training.metrics.scores import Predictions
from training.run import read_json

if TYPE_CHECKING:
    import keras


class ComparisonError(DermaserveError):
    """Runs cannot be compared; the message names them and the reason."""


@dataclass(frozen=True)
class ComparedRun:
    """An evaluated run.

    Attributes:
        name: name of its folder, extended by parent folders if runs share it.
        folder: the run folder.
        recipe: contents of ``recipe.json``.
        data: folder of its data set.
        image_ids: the N test images, sorted.
        predictions: the ensemble's predictions, in the same order.
        member_predictions: predictions of the members that predict all classes, in the same order.
    """

    name: str
    folder: Path
    recipe: dict[str, Any]
    data: Path
    image_ids: tuple[str, ...]
    predictions: Predictions
    member_predictions: dict[str, Predictions]

    @property
    def members(self) -> tuple[str, ...]:
        """Names of all members."""
        return tuple(member["name"] for member in self.recipe["members"])

    @property
    def task(self) -> str:
        """The task, with the body sites to which the recipe restricts it."""
        sites = self.recipe.get("sites") or ()
        task = str(self.recipe.get("task", "diagnosis"))
        return f"{task} ({', '.join(sites)} only)" if sites else task

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the model's input, in pixels."""
        size = self.recipe["image_size"]
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    @property
    def color(self) -> Color:
        """``"rgb"`` or ``"grey"``."""
        return "grey" if self.recipe.get("color") == "grey" else "rgb"

    @property
    def split_by_image(self) -> bool:
        """Whether images of one lesion are in several parts, so that all metrics are too high."""
        file = self.folder / "evaluation" / "metrics.json"
        return file.is_file() and _json(file).get("split_by") == "image"

    @cached_property
    def bundle(self) -> Bundle | BundleError:
        """The verified bundle, or the error of its verification."""
        try:
            return load_bundle(self.folder / "bundle")
        except BundleError as error:
            return error

    def history(self, member: str) -> list[dict[str, float]]:
        """Return the epochs of a member; empty if its history is missing or cannot be read."""
        try:
            return read_history(self.folder / member / "history.csv")
        except (OSError, ValueError, TypeError):
            return []

    def seconds(self, member: str | None = None) -> float:
        """Return the training time in seconds of a member, or of all; NaN if a history lacks it."""
        histories = [self.history(name) for name in ([member] if member else self.members)]
        if not all(histories):
            return float("nan")
        return sum(epoch.get("seconds", float("nan")) for history in histories for epoch in history)

    def has_same_test_set(self, other: "ComparedRun") -> bool:
        """Whether both runs were evaluated on the same images with the same labels."""
        mine, others = self.predictions, other.predictions
        return (
            self.image_ids == other.image_ids
            and mine.codes == others.codes
            and bool((mine.labels == others.labels).all())
            and bool((mine.lesions == others.lesions).all())
        )


@dataclass(frozen=True)
class Group:
    """Runs with the same test set and task; only these can be ranked together."""

    title: str
    runs: tuple[ComparedRun, ...]

    def __iter__(self) -> Iterator[ComparedRun]:
        return iter(self.runs)

    @property
    def truth(self) -> Predictions:
        """Predictions whose labels, lesions, codes and malignant classes are those of all runs."""
        return self.runs[0].predictions


def open_runs(folders: Sequence[Path]) -> list[ComparedRun]:
    """Read the runs in ``folders``.

    Raises:
        ComparisonError: no folder is given, or a folder is given twice or is not a run.
        PredictionsError: a run is not evaluated, or its predictions cannot be read.
    """
    if not folders:
        raise ComparisonError("expected at least one run folder, got none")
    resolved = [folder.resolve() for folder in folders]
    for index, folder in enumerate(resolved):
        if folder in resolved[:index]:
            raise ComparisonError(f"{folders[index]} is given twice")
    return [_open(folder, name) for folder, name in zip(folders, _names(resolved), strict=True)]


def group_runs(runs: Sequence[ComparedRun]) -> list[Group]:
    """Group the runs by test set, in the order of the first run of each group."""
    groups: list[list[ComparedRun]] = []
    for run in runs:
        for group in groups:
            if run.has_same_test_set(group[0]):
                group.append(run)
                break
        else:
            groups.append([run])
    titles = [
        f"{group[0].task.capitalize()}, {len(group[0].image_ids):,} test images"
        + (" (split by image: all metrics are too high)" if any(r.split_by_image for r in group) else "")
        for group in groups
    ]
    unique = [
        title if titles.count(title) == 1 else f"{title}, split of {group[0].name}"
        for title, group in zip(titles, groups, strict=True)
    ]
    return [Group(title, tuple(group)) for title, group in zip(unique, groups, strict=True)]


def _open(folder: Path, name: str) -> ComparedRun:
    if not (folder / "recipe.json").is_file():
        raise ComparisonError(f"{folder}: not a run, expected a folder with recipe.json")
    recipe, environment = (_json(folder / f"{file}.json") for file in ("recipe", "environment"))
    for file, content, key in (("recipe", recipe, "members"), ("environment", environment, "data")):
        if key not in content:
            raise ComparisonError(f"{folder / file}.json: {key!r} missing")
    saved = load_predictions(folder / "evaluation" / "test.npz")
    order = np.argsort(saved.image_id)
    return ComparedRun(
        name=name,
        folder=folder,
        recipe=recipe,
        data=Path(environment["data"]),
        image_ids=tuple(saved.image_id[order].tolist()),
        predictions=saved.ensemble.take(order),
        member_predictions={name: member.take(order) for name, member in saved.by_member.items()},
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise ComparisonError(f"{path}: cannot be read ({error.__class__.__name__})") from error


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths, with equal numbers of parts, that all differ."""
    for length in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(names)) == len(names):
            break
    return names


def load_network(run: ComparedRun, member: str) -> "keras.Model":
    """Load the trained network of a member, with any backend.

    Raises:
        ComparisonError: the network is missing, or Keras cannot load it.
    """
    path = run.folder / member / "network.keras"
    if not path.is_file():
        raise ComparisonError(f"{run.name}: {member} has no network.keras")
    import keras

    import training.network.build  # noqa: F401 - registers the layers that a network may be made of

    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ComparisonError(
            f"{run.name}: {member}/network.keras cannot be loaded with the backend {keras.backend.backend()} "
            f"({error.__class__.__name__})"
        ) from error


def count_parameters(run: ComparedRun, member: str | None = None) -> float:
    """Return the number of parameters of a member, or of all; NaN if it is unknown.

    It is taken from the bundle or, without a bundle, from the saved network.
    """
    if not isinstance(run.bundle, BundleError):
        counts = {m.name: m.parameters for m in run.bundle.manifest.members}
        return float(counts.get(member, float("nan")) if member else sum(counts.values()))
    try:
        return float(sum(load_network(run, n).count_params() for n in ([member] if member else run.members)))
    except ComparisonError:
        return float("nan")
