"""Lesion-grouped, stratified k-fold splits: every image is in the test part of exactly one fold."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from sklearn.model_selection import StratifiedGroupKFold

from training.data.dataset import DataError, Row
from training.data.split import Split, check_split, groups_by_class, lesion_groups, read_split


def fold_path(folder: Path, number: int) -> Path:
    """The split file of fold ``number``, counted from 1."""
    return folder / f"fold-{number}.csv"


def make_folds(
    rows: Sequence[Row], *, folds: int, seed: int, duplicates: Iterable[Sequence[Row]] = ()
) -> list[Split]:
    """One split a fold: its own share of the images is test, the next fold's validation, the rest train.

    scikit-learn's ``StratifiedGroupKFold`` deals the groups, the largest first, so that each fold gets its
    share of each class; folds differ by few images of a class.

    Args:
        rows: the data set.
        folds: their number K, at least 3.
        seed: of the shuffle; the same seed and rows give the same folds.
        duplicates: groups of rows that show the same picture; their lesions are joined before.

    Raises:
        DataError: fewer than three folds, or a class with fewer lesions than folds.
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
    dealt = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(
        rows, [row.dx for row in rows], [group_of[row.image_id] for row in rows]
    )
    fold_of = {rows[index].image_id: fold for fold, (_, tested) in enumerate(dealt) for index in tested}
    splits = [
        Split({image_id: _part(fold, test, folds) for image_id, fold in fold_of.items()})
        for test in range(folds)
    ]
    for split in splits:
        check_split(rows, split)
    return splits


def read_folds(folder: Path, rows: Sequence[Row], *, folds: int) -> list[Split]:
    """The splits that ``prepare --folds`` wrote.

    Raises:
        DataError: a file is missing or does not fit ``rows``, there are more than ``folds``, or their
            test parts do not hold every image exactly once.
    """
    if fold_path(folder, folds + 1).is_file():
        raise DataError(f"{folder}: holds more than {folds} folds; choose another folder")
    splits = [read_split(fold_path(folder, number), rows) for number in range(1, folds + 1)]
    for row in rows:
        times = sum(split[row.image_id] == "test" for split in splits)
        if times != 1:
            raise DataError(
                f"{folder}: image {row.image_id} is in the test part of {times} folds, expected one"
            )
    return splits


def _part(fold: int, test: int, folds: int) -> str:
    return {test: "test", (test + 1) % folds: "validation"}.get(fold, "train")
