"""Lesion-grouped, stratified k-fold splits: each image is in the test part of exactly one fold."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from sklearn.model_selection import StratifiedGroupKFold

from training.data.dataset import DataError, Row
from training.data.split import Split, check_split, groups_by_class, lesion_groups, read_split


def fold_path(folder: Path, number: int) -> Path:
    """Return the path of the split file of fold ``number``, counted from 1."""
    return folder / f"fold-{number}.csv"


def make_folds(
    rows: Sequence[Row], *, folds: int, seed: int, duplicates: Iterable[Sequence[Row]] = ()
) -> list[Split]:
    """Make one split per fold: this fold is test, the next fold is validation, the rest is train.

    scikit-learn's ``StratifiedGroupKFold`` assigns the groups, so that each fold has nearly the same share
    of each class.

    Args:
        rows: the data set.
        folds: number of folds, at least 3.
        seed: seed of the shuffle; the same seed and rows give the same folds.
        duplicates: groups of rows that show the same picture; their lesions stay in one fold.

    Raises:
        DataError: there are fewer than three folds, or a class has fewer lesions than folds.
    """
    if folds < 3:
        raise DataError(f"folds: at least 3 are needed for train, validation and test, got {folds}")
    groups = lesion_groups(rows, duplicates)
    for code, of_class in groups_by_class(groups).items():
        if len(of_class) < folds:
            raise DataError(
                f"class {code}: {len(of_class)} lesions, at least {folds} are needed for {folds} folds"
            )
    group_of = {row.image_id: number for number, group in enumerate(groups) for row in group}
    assigned = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(
        rows, [row.dx for row in rows], [group_of[row.image_id] for row in rows]
    )
    fold_of = {rows[index].image_id: fold for fold, (_, test) in enumerate(assigned) for index in test}
    splits = [
        Split({image_id: _part(fold, test, folds) for image_id, fold in fold_of.items()})
        for test in range(folds)
    ]
    for split in splits:
        check_split(rows, split)
    return splits


def read_folds(folder: Path, rows: Sequence[Row], *, folds: int) -> list[Split]:
    """Read the splits that ``prepare --folds`` wrote.

    Raises:
        DataError: a file is missing or does not match ``rows``, the folder holds more than ``folds``
            files, or an image is not in exactly one test part.
    """
    if fold_path(folder, folds + 1).is_file():
        raise DataError(f"{folder}: holds more than {folds} folds; choose another folder")
    splits = [read_split(fold_path(folder, number), rows) for number in range(1, folds + 1)]
    for row in rows:
        times = sum(split[row.image_id] == "test" for split in splits)
        if times != 1:
            raise DataError(
                f"{folder}: image {row.image_id} is in the test part of {times} folds, expected 1"
            )
    return splits


def _part(fold: int, test: int, folds: int) -> str:
    return {test: "test", (test + 1) % folds: "validation"}.get(fold, "train")
