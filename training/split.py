"""Lesion-grouped, stratified split into train, validation and test, kept in a file.

A lesion photographed several times must lie on one side only: a split by image flatters balanced
accuracy by about 0.10 on this data. The same holds for files that are equal to the byte under two
lesion ids, so their lesions are joined into one group first.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from training.data import CODES, DataError, Row

PARTS = ("train", "validation", "test")
Split = dict[str, str]
"""Part by image_id."""


def make_split(
    rows: Sequence[Row],
    *,
    seed: int,
    validation: float = 0.15,
    test: float = 0.15,
    duplicates: Iterable[Sequence[Row]] = (),
) -> Split:
    """Assign every image to a part, lesion by lesion, with the class shares kept.

    Within each class the groups are shuffled and dealt to test, then validation, until each has
    its share of that class's images; the rest is train. Every class with at least three groups is
    present in every part.

    Args:
        rows: the data set.
        seed: of the shuffle; the same seed and rows give the same split.
        validation, test: shares of the images.
        duplicates: groups of rows with equal files, joined before the split.

    Raises:
        DataError: the shares leave nothing to train on, or a class has fewer than three lesions.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise DataError(
            f"validation and test shares must be positive and sum to less than 1, got {validation} and {test}"
        )
    groups = _groups(rows, duplicates)
    by_class: dict[str, list[list[Row]]] = defaultdict(list)
    for group in groups:
        by_class[group[0].dx].append(group)
    rng = np.random.default_rng(seed)
    split: Split = {}
    for code in CODES:
        of_class = by_class.get(code, [])
        if not of_class:
            continue
        if len(of_class) < 3:
            raise DataError(f"class {code}: {len(of_class)} lesions, at least 3 are needed to split")
        total = sum(len(group) for group in of_class)
        order = [of_class[i] for i in rng.permutation(len(of_class))]
        for part, share in (("test", test), ("validation", validation)):
            dealt = 0
            while order and (dealt == 0 or dealt + len(order[-1]) / 2 <= share * total):
                if len(order) == 1:  # the last group is for training
                    break
                group = order.pop()
                dealt += len(group)
                split.update({row.image_id: part for row in group})
        split.update({row.image_id: "train" for group in order for row in group})
    check_split(rows, split)
    return split


def check_split(rows: Sequence[Row], split: Mapping[str, str]) -> None:
    """Raise DataError unless every row has a part and no lesion crosses parts."""
    part_of_lesion: dict[str, str] = {}
    for row in rows:
        part = split.get(row.image_id)
        if part not in PARTS:
            raise DataError(
                f"split: image {row.image_id} has part {part!r}, expected one of {', '.join(PARTS)}"
            )
        known = part_of_lesion.setdefault(row.lesion_id, part)
        if known != part:
            raise DataError(f"split: lesion {row.lesion_id} lies in both {known} and {part}")


def write_split(path: Path, rows: Sequence[Row], split: Mapping[str, str]) -> None:
    """Write ``image_id,lesion_id,dx,part``, one line an image."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image_id", "lesion_id", "dx", "part"))
        writer.writerows((r.image_id, r.lesion_id, r.dx, split[r.image_id]) for r in rows)


def read_split(path: Path, rows: Sequence[Row]) -> Split:
    """Read a split file and check it against the data set it is used with.

    Raises:
        DataError: the file is missing or does not fit ``rows``.
    """
    if not path.is_file():
        raise DataError(f"{path}: not found; `python -m training prepare` writes it")
    with path.open(newline="", encoding="utf-8") as stream:
        split = {record["image_id"]: record["part"] for record in csv.DictReader(stream)}
    check_split(rows, split)
    return split


def rows_of(rows: Sequence[Row], split: Mapping[str, str], part: str) -> list[Row]:
    """The rows of one part, in the order of ``rows``."""
    return [row for row in rows if split[row.image_id] == part]


def _groups(rows: Sequence[Row], duplicates: Iterable[Sequence[Row]]) -> list[list[Row]]:
    """Rows by lesion, with lesions that share a file joined (union-find)."""
    parent = {row.lesion_id: row.lesion_id for row in rows}

    def root(lesion: str) -> str:
        while parent[lesion] != lesion:
            parent[lesion] = parent[parent[lesion]]
            lesion = parent[lesion]
        return lesion

    for same in duplicates:
        for row in same[1:]:
            parent[root(row.lesion_id)] = root(same[0].lesion_id)
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[root(row.lesion_id)].append(row)
    return list(groups.values())
