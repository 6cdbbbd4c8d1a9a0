"""Stores a run's predictions on one part of the data in a ``.npz`` file.

``evaluate`` writes ``evaluation/validation.npz`` and ``evaluation/test.npz``; comparisons read them. The
files hold no images. They are read without pickle, so a file from an untrusted source cannot run code.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from models.errors import DermaserveError
from training.metrics.scores import Predictions


class PredictionsError(DermaserveError):
    """A file of predictions is missing, damaged or inconsistent."""


@dataclass(frozen=True)
class SavedPredictions:
    """The contents of a file of predictions, for N images, K classes and M members.

    Attributes:
        image_id: str ``[N]``.
        lesion_id: str ``[N]``, the lesion of each image.
        labels: int ``[N]``, the true class as an index into ``codes``.
        probabilities: float ``[N, K]``, the ensemble's calibrated probabilities.
        decided: int ``[N]``, the class that the decision rule selects.
        codes: the K class codes.
        malignant: bool ``[K]``.
        threshold: threshold of the malignancy probability.
        members: names of the M members that predict all K classes; M may be 0.
        member_probabilities: float ``[M, N, K]``, calibrated with each member's own temperature.
        member_decided: int ``[M, N]``, the class that the decision rule selects for each member.

    Raises:
        PredictionsError: shapes do not match, values are out of range, there is no image, or an image
            occurs twice.
    """

    image_id: np.ndarray
    lesion_id: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    decided: np.ndarray
    codes: tuple[str, ...]
    malignant: np.ndarray
    threshold: float
    members: tuple[str, ...]
    member_probabilities: np.ndarray
    member_decided: np.ndarray

    def __post_init__(self) -> None:
        n, k, m = len(self.labels), len(self.codes), len(self.members)
        expected = {
            "image_id": (n,),
            "lesion_id": (n,),
            "labels": (n,),
            "probabilities": (n, k),
            "decided": (n,),
            "malignant": (k,),
            "member_probabilities": (m, n, k),
            "member_decided": (m, n),
        }
        for name, shape in expected.items():
            found = getattr(self, name).shape
            if found != shape:
                raise PredictionsError(f"{name}: expected the shape {list(shape)}, got {list(found)}")
        if n == 0:
            raise PredictionsError("labels: expected at least one image, got none")
        if len(set(self.image_id.tolist())) != n:
            raise PredictionsError("image_id: an image occurs twice")
        for name in ("labels", "decided", "member_decided"):
            values = getattr(self, name)
            if values.size and (values.min() < 0 or values.max() >= k):
                raise PredictionsError(f"{name}: expected 0 to {k - 1}, got {values.min()} to {values.max()}")
        for name in ("probabilities", "member_probabilities"):
            values = getattr(self, name)
            if not ((values >= -1e-6) & (values <= 1 + 1e-6)).all():  # also rejects NaN
                raise PredictionsError(f"{name}: expected numbers from 0 to 1")

    @property
    def ensemble(self) -> Predictions:
        """The ensemble's predictions."""
        return self._predictions(self.probabilities, self.decided)

    @property
    def by_member(self) -> dict[str, Predictions]:
        """Each member's predictions at its own temperature, with the run's decision rule and threshold."""
        return {
            name: self._predictions(self.member_probabilities[index], self.member_decided[index])
            for index, name in enumerate(self.members)
        }

    def _predictions(self, probabilities: np.ndarray, decided: np.ndarray) -> Predictions:
        return Predictions(
            probabilities=probabilities,
            decided=decided,
            labels=self.labels,
            lesions=self.lesion_id,
            codes=self.codes,
            malignant=self.malignant,
            threshold=self.threshold,
        )


def save_predictions(
    path: Path,
    image_ids: Sequence[str],
    ensemble: Predictions,
    members: Mapping[str, Predictions] | None = None,
) -> SavedPredictions:
    """Write the predictions on one part to ``path``, atomically.

    Args:
        path: the ``.npz`` file; it is replaced.
        image_ids: the N images, in the order of the arrays.
        ensemble: the ensemble's predictions.
        members: predictions of the members that predict all K classes, by name.

    Returns:
        The contents of the file.

    Raises:
        PredictionsError: shapes do not match, or values are out of range.
    """
    members = members or {}
    n, k = ensemble.probabilities.shape
    by_member = list(members.values())
    saved = SavedPredictions(
        image_id=np.array(image_ids, dtype=str),
        lesion_id=np.asarray(ensemble.lesions).astype(str),
        labels=np.asarray(ensemble.labels),
        probabilities=ensemble.probabilities,
        decided=np.asarray(ensemble.decided),
        codes=tuple(ensemble.codes),
        malignant=np.asarray(ensemble.malignant, dtype=bool),
        threshold=float(ensemble.threshold),
        members=tuple(members),
        member_probabilities=np.array([m.probabilities for m in by_member]).reshape(len(by_member), n, k),
        member_decided=np.array([m.decided for m in by_member], dtype=np.int64).reshape(len(by_member), n),
    )
    arrays = {field.name: np.asarray(getattr(saved, field.name)) for field in fields(saved)}
    arrays["members"] = np.array(saved.members, dtype=str)  # an empty array would be float
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    part.replace(path)
    return saved


def load_predictions(path: Path) -> SavedPredictions:
    """Read a file that ``save_predictions`` wrote.

    Raises:
        PredictionsError: the file is missing, cannot be read, lacks an array, or is inconsistent.
    """
    if not path.is_file():
        raise PredictionsError(f"{path}: no predictions; `python -m training evaluate` writes them")
    names = {field.name for field in fields(SavedPredictions)}
    try:
        # Given a path, np.load leaks the open file if the archive is damaged, and accepts a plain .npy file.
        with path.open("rb") as stream, zipfile.ZipFile(stream):
            stream.seek(0)
            archive = np.load(stream, allow_pickle=False)
            found = {name: archive[name] for name in names & set(archive.files)}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise PredictionsError(f"{path}: not a readable file of predictions ({error})") from error
    if missing := names - set(found):
        raise PredictionsError(f"{path}: arrays missing: {', '.join(sorted(missing))}")
    try:
        return SavedPredictions(
            image_id=found["image_id"],
            lesion_id=found["lesion_id"],
            labels=found["labels"],
            probabilities=found["probabilities"],
            decided=found["decided"],
            codes=tuple(found["codes"].tolist()),
            malignant=found["malignant"],
            threshold=float(found["threshold"]),
            members=tuple(found["members"].tolist()),
            member_probabilities=found["member_probabilities"],
            member_decided=found["member_decided"],
        )
    except PredictionsError as error:
        raise PredictionsError(f"{path}: {error}") from error
