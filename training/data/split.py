"""Lesion-grouped, stratified split into train, validation and test, stored in a file.

All images of a lesion must be in one part: on this data, a split by image raises balanced accuracy by about
0.10. Lesions that share near-duplicate images form one group for the same reason. A split by image exists
only to measure this leakage and for comparisons with systems that split so. Its file is marked as such. A
file without the mark is rejected if a lesion has images in two parts.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from training.data.dataset import CODES, DataError, Row

PARTS = ("train", "validation", "test")
SplitBy = Literal["lesion", "image"]
BY_IMAGE_WARNING = (
    "split by image: images of one lesion are in several parts, so all metrics are too high; use this split "
    "only to measure the leakage, or beside systems that split so, never to evaluate a model"
)
_COLUMNS = ("image_id", "lesion_id", "dx", "part")


@dataclass(frozen=True)
class Split(Mapping[str, str]):
    """Maps each image_id to its part.

    Attributes:
        parts: ``"train"``, ``"validation"`` or ``"test"``, by image_id.
        by: ``"lesion"``, or ``"image"`` if images of one lesion may be in several parts.
    """

    parts: Mapping[str, str]
    by: SplitBy = "lesion"

    def __getitem__(self, image_id: str) -> str:
        return self.parts[image_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


def make_split(
    rows: Sequence[Row],
    *,
    seed: int,
    validation: float = 0.15,
    test: float = 0.15,
    duplicates: Iterable[Sequence[Row]] = (),
    by: SplitBy = "lesion",
) -> Split:
    """Assign every image to a part by lesion, with the same class shares in each part.

    Within each class, the groups are shuffled and assigned to test, then to validation, until each has its
    share of the class's images; the rest is train. Every class is present in every part.

    Args:
        rows: the data set.
        seed: seed of the shuffle; the same seed and rows give the same split.
        validation, test: shares of the images; from 1, numbers of images. A split by image has exactly these
            numbers, a split by lesion about these.
        duplicates: groups of rows that show the same picture; their lesions stay in one part.
        by: ``"image"`` assigns single images instead and ignores ``duplicates``.

    Raises:
        DataError: the shares leave no training images, or a class has fewer than three lesions.
    """
    validation, test = (share if share < 1 else share / len(rows) for share in (validation, test))
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise DataError(
            f"validation and test shares must be positive and sum to less than 1, got {validation} and {test}"
        )
    groups = lesion_groups(rows, duplicates) if by == "lesion" else [[row] for row in rows]
    rng = np.random.default_rng(seed)
    parts: dict[str, str] = {}
    by_class = groups_by_class(groups)
    images = {code: sum(len(group) for group in of_class) for code, of_class in by_class.items()}
    wanted = {
        part: _per_class(images, share, by) for part, share in (("test", test), ("validation", validation))
    }
    for code, of_class in by_class.items():
        if len(of_class) < 3:
            raise DataError(f"class {code}: {len(of_class)} {by}s, at least 3 are needed to split")
        order = [of_class[i] for i in rng.permutation(len(of_class))]
        for part, numbers in wanted.items():
            assigned = 0
            while order and (assigned == 0 or assigned + len(order[-1]) / 2 <= numbers[code]):
                if len(order) == 1:  # the last group is for training
                    break
                group = order.pop()
                assigned += len(group)
                parts.update({row.image_id: part for row in group})
        parts.update({row.image_id: "train" for group in order for row in group})
    split = Split(parts, by)
    check_split(rows, split)
    return split


def _per_class(images: Mapping[str, int], share: float, by: SplitBy) -> dict[str, float]:
    """Return how many images of each class a part shall have.

    A part of single images can have an exact size: the numbers are then whole, by the largest remainders, as
    in scikit-learn's stratified split.
    """
    numbers = {code: share * count for code, count in images.items()}
    if by == "lesion":
        return numbers
    whole = {code: int(number) for code, number in numbers.items()}
    missing = round(sum(numbers.values())) - sum(whole.values())
    for code in sorted(numbers, key=lambda code: whole[code] - numbers[code])[:missing]:
        whole[code] += 1
    return {code: float(number) for code, number in whole.items()}


def check_split(rows: Sequence[Row], split: Split) -> None:
    """Check that every row has a part, and that a split by lesion has no lesion in two parts.

    Raises:
        DataError: it does not hold.
    """
    part_of_lesion: dict[str, str] = {}
    for row in rows:
        part = split.get(row.image_id)
        if part not in PARTS:
            raise DataError(
                f"split: image {row.image_id} has part {part!r}, expected one of {', '.join(PARTS)}"
            )
        known = part_of_lesion.setdefault(row.lesion_id, part)
        if known != part and split.by == "lesion":
            raise DataError(
                f"split: lesion {row.lesion_id} is in both {known} and {part}, but the split is not marked "
                "as a split by image"
            )


def write_split(path: Path, rows: Sequence[Row], split: Mapping[str, str]) -> None:
    """Write a CSV file with the columns ``image_id,lesion_id,dx,part``, one line per image.

    A split by image has the additional column ``split_by``.

    Args:
        path: the file; it is replaced.
        rows: the images to write.
        split: their parts; a mapping other than ``Split`` counts as a split by lesion.
    """
    by_image = isinstance(split, Split) and split.by == "image"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(_COLUMNS + (("split_by",) if by_image else ()))
        for row in rows:
            line = (row.image_id, row.lesion_id, row.dx, split[row.image_id])
            writer.writerow(line + (("image",) if by_image else ()))


def read_split(path: Path, rows: Sequence[Row]) -> Split:
    """Read the parts of ``rows`` from a split file, which may hold further images.

    Raises:
        DataError: the file is missing or not a split file, names an image twice, lacks one of ``rows``,
            or has a lesion in two parts without being marked as a split by image.
    """
    if not path.is_file():
        raise DataError(f"{path}: not found; `python -m training prepare` writes it")
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if missing := set(_COLUMNS) - set(reader.fieldnames or ()):
            raise DataError(f"{path}: columns missing: {', '.join(sorted(missing))}")
        parts: dict[str, str] = {}
        kinds: set[str] = set()
        for record in reader:
            if record["image_id"] in parts:
                raise DataError(f"{path}: image {record['image_id']} occurs twice")
            parts[record["image_id"]] = record["part"]
            kinds.add(record.get("split_by") or "lesion")
    if not kinds <= set(get_args(SplitBy)) or len(kinds) > 1:
        raise DataError(f"{path}: split_by is {', '.join(sorted(kinds))}, expected one of lesion, image")
    for row in rows:
        if row.image_id not in parts:
            raise DataError(f"{path}: image {row.image_id} is missing; was the file made for other data?")
    used = {row.image_id: parts[row.image_id] for row in rows}
    split = Split(used, "image" if kinds == {"image"} else "lesion")
    check_split(rows, split)
    return split


def rows_of(rows: Sequence[Row], split: Mapping[str, str], part: str) -> list[Row]:
    """Return the rows of one part, in the order of ``rows``."""
    return [row for row in rows if split[row.image_id] == part]


def lesion_groups(rows: Sequence[Row], duplicates: Iterable[Sequence[Row]] = ()) -> list[list[Row]]:
    """Group rows by lesion, and join lesions that share a picture directly or through other lesions.

    Args:
        rows: the images.
        duplicates: groups of rows that show the same picture.

    Returns:
        The groups in the order of their first row; the rows of a group in the order of ``rows``.
    """
    number = {lesion: index for index, lesion in enumerate(dict.fromkeys(row.lesion_id for row in rows))}
    pairs = [(number[same[0].lesion_id], number[row.lesion_id]) for same in duplicates for row in same[1:]]
    first, second = np.array(pairs, dtype=int).reshape(-1, 2).T
    shared = coo_array((np.ones(len(pairs)), (first, second)), shape=(len(number), len(number)))
    component = connected_components(shared, directed=False)[1]
    groups: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        groups[component[number[row.lesion_id]]].append(row)
    return list(groups.values())


def groups_by_class(groups: Iterable[list[Row]]) -> dict[str, list[list[Row]]]:
    """Return the groups by the diagnosis of their first image, in the order of ``CODES``.

    The images of a group differ in diagnosis only if it joins several lesions. Classes without groups are
    absent.
    """
    by_class: dict[str, list[list[Row]]] = defaultdict(list)
    for group in groups:
        by_class[group[0].dx].append(group)
    return {code: by_class[code] for code in CODES if code in by_class}


def image_counts(parts: Mapping[str, Sequence[Row]]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the number of images and the number of lesions in each part."""
    images = {part: len(rows) for part, rows in parts.items()}
    lesions = {part: len({row.lesion_id for row in rows}) for part, rows in parts.items()}
    return images, lesions
