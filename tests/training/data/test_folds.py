from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from training.data.dataset import CODES, DataError, Row
from training.data.folds import fold_path, make_folds, read_folds
from training.data.split import PARTS, Split, rows_of, write_split


def _rows(lesions_per_class: int = 23) -> list[Row]:
    """Return rows without files; lesion n of a class has 1 + n % 3 images."""
    return [
        Row(f"{code}{n}_{k}", f"L{code}{n}", code, "histo", 50.0, "male", "back", Path("unused"))
        for code in CODES
        for n in range(lesions_per_class)
        for k in range(1 + n % 3)
    ]


def _written(folder: Path, rows: list[Row], splits: list[Split]) -> Path:
    for number, split in enumerate(splits, start=1):
        write_split(fold_path(folder, number), rows, split)
    return folder


def test_every_image_is_in_the_test_part_of_one_fold_and_validates_another() -> None:
    rows = _rows()
    splits = make_folds(rows, folds=5, seed=0)
    for row in rows:
        assert Counter(split[row.image_id] for split in splits) == {"test": 1, "validation": 1, "train": 3}


def test_a_folds_validation_part_is_the_next_folds_test_part() -> None:
    rows = _rows()
    splits = make_folds(rows, folds=4, seed=0)
    for split, following in pairwise([*splits, splits[0]]):
        assert rows_of(rows, split, "validation") == rows_of(rows, following, "test")


def test_no_lesion_lies_in_two_parts_of_a_fold() -> None:
    rows = _rows()
    for split in make_folds(rows, folds=5, seed=0):
        assert len({(row.lesion_id, split[row.image_id]) for row in rows}) == 23 * len(CODES)


def test_folds_hold_almost_equally_many_images_of_every_class() -> None:
    rows = _rows()
    for split in make_folds(rows, folds=5, seed=3):
        counts = Counter(row.dx for row in rows_of(rows, split, "test"))
        # 45 images of a class, dealt one to three at a time.
        assert all(abs(counts[code] - 45 / 5) <= 1 for code in CODES)
        assert abs(sum(counts.values()) - len(rows) / 5) <= 2


def test_lesions_that_share_a_picture_stay_together() -> None:
    rows = _rows()
    nevi = [row for row in rows if row.dx == "nv" and row.image_id.endswith("_0")]
    chain = [list(pair) for pair in pairwise(nevi[:4])]
    for split in make_folds(rows, folds=3, seed=0, duplicates=chain):
        assert len({split[row.image_id] for row in nevi[:4]}) == 1


def test_a_seed_gives_the_same_folds_and_another_seed_others() -> None:
    rows = _rows()
    assert make_folds(rows, folds=3, seed=0) == make_folds(rows, folds=3, seed=0)
    assert make_folds(rows, folds=3, seed=0) != make_folds(rows, folds=3, seed=1)


def test_the_smallest_possible_class_is_in_every_part_of_every_fold() -> None:
    rows = _rows(lesions_per_class=5)
    for split in make_folds(rows, folds=5, seed=0):
        for part in PARTS:
            assert {row.dx for row in rows_of(rows, split, part)} == set(CODES)


@pytest.mark.parametrize("folds", [2, 1, 0])
def test_fewer_than_three_folds_are_refused(folds: int) -> None:
    with pytest.raises(DataError, match=f"at least 3 are needed for train, validation and test, got {folds}"):
        make_folds(_rows(), folds=folds, seed=0)


def test_a_class_with_fewer_lesions_than_folds_is_refused() -> None:
    with pytest.raises(DataError, match="class akiec: 4 lesions, at least 5 are needed for 5 folds"):
        make_folds(_rows(lesions_per_class=4), folds=5, seed=0)


def test_written_folds_are_read_back(tmp_path: Path) -> None:
    rows = _rows()
    splits = make_folds(rows, folds=3, seed=0)
    assert read_folds(_written(tmp_path, rows, splits), rows, folds=3) == splits


def test_folds_that_test_an_image_twice_are_refused(tmp_path: Path) -> None:
    rows = _rows()
    first, _, third = make_folds(rows, folds=3, seed=0)
    _written(tmp_path, rows, [first, first, third])
    with pytest.raises(DataError, match=r"is in the test part of [02] folds"):
        read_folds(tmp_path, rows, folds=3)


def test_another_number_of_folds_than_was_written_is_refused(tmp_path: Path) -> None:
    rows = _rows()
    _written(tmp_path, rows, make_folds(rows, folds=4, seed=0))
    with pytest.raises(DataError, match="more than 3 folds"):
        read_folds(tmp_path, rows, folds=3)
    with pytest.raises(DataError, match=r"fold-5\.csv: not found"):
        read_folds(tmp_path, rows, folds=5)
