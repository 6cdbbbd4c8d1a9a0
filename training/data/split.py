"""Lesion-grouped, stratified split into train, validation and test, kept in a file.

A lesion photographed several times must lie on one side only: a split by image flatters balanced
accuracy by about 0.10 on this data. The same holds for one picture under two lesion ids, so such
lesions are joined into one group first. A split by image can be made to measure that effect.
The split and its file then say so; any other file with a lesion in two parts is refused.
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
FLATTERS = (
    "split by image: photographs of one lesion lie in several parts, so every figure from this split "
    "is too high; use it to measure that effect, never to judge a model"
)
_COLUMNS = ("image_id", "lesion_id", "dx", "part")


@dataclass(frozen=True)
class Split(Mapping[str, str]):
    """Part by image_id.

    Attributes:
        parts: ``"train"``, ``"validation"`` or ``"test"`` by image_id.
        by: ``"lesion"``, or ``"image"`` where lesions may lie in several parts.
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
    """Assign every image to a part, lesion by lesion, with the class shares kept.

    Within each class the groups are shuffled and dealt to test, then validation, until each has
    its share of that class's images; the rest is train. Every class with at least three groups is
    present in every part.

    Args:
        rows: the data set.
        seed: of the shuffle; the same seed and rows give the same split.
        validation, test: shares of the images.
        duplicates: groups of rows that show the same picture; their lesions are joined before the split.
        by: ``"image"`` deals single images instead, duplicates or not.

    Raises:
        DataError: the shares leave nothing to train on, or a class has fewer than three lesions.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise DataError(
            f"validation and test shares must be positive and sum to less than 1, got {validation} and {test}"
        )
    groups = lesion_groups(rows, duplicates) if by == "lesion" else [[row] for row in rows]
    rng = np.random.default_rng(seed)
    parts: dict[str, str] = {}
    for code, of_class in groups_by_class(groups).items():
        if len(of_class) < 3:
            raise DataError(f"class {code}: {len(of_class)} {by}s, at least 3 are needed to split")
        total = sum(len(group) for group in of_class)
        order = [of_class[i] for i in rng.permutation(len(of_class))]
        for part, share in (("test", test), ("validation", validation)):
            dealt = 0
            while order and (dealt == 0 or dealt + len(order[-1]) / 2 <= share * total):
                if len(order) == 1:  # the last group is for training
                    break
                group = order.pop()
                dealt += len(group)
                parts.update({row.image_id: part for row in group})
        parts.update({row.image_id: "train" for group in order for row in group})
    split = Split(parts, by)
    check_split(rows, split)
    return split


def check_split(rows: Sequence[Row], split: Split) -> None:
    """Raise DataError unless every row has a part and, but in a split by image, no lesion crosses."""
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
                f"split: lesion {row.lesion_id} lies in both {known} and {part}, and the split does not "
                "say that it is one by image"
            )


def write_split(path: Path, rows: Sequence[Row], split: Mapping[str, str]) -> None:
    """Write ``image_id,lesion_id,dx,part``, one line an image; a split by image says so in each.

    Args:
        path: of the file; it is replaced.
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
    """The parts of ``rows`` from a split file, which may hold more images than those.

    Raises:
        DataError: the file is missing or no split file, names an image twice, lacks one of ``rows``,
            or has a lesion in two parts without saying that it is a split by image.
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
            raise DataError(f"{path}: image {row.image_id} is missing; was it made for another data set?")
    used = {row.image_id: parts[row.image_id] for row in rows}
    split = Split(used, "image" if kinds == {"image"} else "lesion")
    check_split(rows, split)
    return split


def rows_of(rows: Sequence[Row], split: Mapping[str, str], part: str) -> list[Row]:
    """The rows of one part, in the order of ``rows``."""
    return [row for row in rows if split[row.image_id] == part]


def lesion_groups(rows: Sequence[Row], duplicates: Iterable[Sequence[Row]] = ()) -> list[list[Row]]:
    """Rows by lesion, with lesions that share a picture joined, also through others.

    Groups come in the order of their first row, and rows within them in that of ``rows``.
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
    """Groups by the diagnosis of their first image, in the order of ``CODES``; absent where none.

    Only lesions joined over a shared picture can differ in it: then the first image's counts.
    """
    by_class: dict[str, list[list[Row]]] = defaultdict(list)
    for group in groups:
        by_class[group[0].dx].append(group)
    return {code: by_class[code] for code in CODES if code in by_class}


def image_counts(parts: Mapping[str, Sequence[Row]]) -> tuple[dict[str, int], dict[str, int]]:
    """Number of images and of lesions in each part."""
    images = {part: len(rows) for part, rows in parts.items()}
    lesions = {part: len({row.lesion_id for row in rows}) for part, rows in parts.items()}
    return images, lesions
