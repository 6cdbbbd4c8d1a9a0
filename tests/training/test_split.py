from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from training.data import CODES, DataError, Row, read_dataset
from training.split import PARTS, make_split, read_split, rows_of, write_split


def _rows(lesions_per_class: int = 40) -> list[Row]:
    """Rows without files: every lesion number n has 1 + n % 3 images."""
    return [
        Row(f"{code}{n}_{k}", f"L{code}{n}", code, "histo", 50.0, "male", "back", Path("unused"))
        for code in CODES
        for n in range(lesions_per_class)
        for k in range(1 + n % 3)
    ]


def _parts_by_lesion(rows: list[Row], split: dict[str, str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.lesion_id, set()).add(split[row.image_id])
    return found


def test_no_lesion_lies_in_two_parts() -> None:
    rows = _rows()
    split = make_split(rows, seed=0)
    assert all(len(parts) == 1 for parts in _parts_by_lesion(rows, split).values())


def test_every_part_has_its_share_of_every_class() -> None:
    rows = _rows()
    split = make_split(rows, seed=0, validation=0.15, test=0.15)
    for code in CODES:
        of_class = [row for row in rows if row.dx == code]
        shares = Counter(split[row.image_id] for row in of_class)
        for part, share in zip(PARTS, (0.7, 0.15, 0.15), strict=True):
            # One lesion of three images is the finest that can be dealt.
            assert abs(shares[part] - share * len(of_class)) <= 3


def test_the_smallest_possible_class_is_in_every_part() -> None:
    rows = _rows(lesions_per_class=3)
    split = make_split(rows, seed=1)
    for part in PARTS:
        assert {row.dx for row in rows_of(rows, split, part)} == set(CODES)


def test_a_class_with_two_lesions_is_refused() -> None:
    with pytest.raises(DataError, match="class akiec: 2 lesions, at least 3"):
        make_split(_rows(lesions_per_class=2), seed=0)


def test_a_seed_gives_one_split_and_another_seed_another() -> None:
    rows = _rows()
    assert make_split(rows, seed=0) == make_split(rows, seed=0) != make_split(rows, seed=1)


def test_lesions_that_share_a_file_stay_together() -> None:
    rows = _rows()
    nevi = [row for row in rows if row.dx == "nv" and row.image_id.endswith("_0")]
    # A chain through ten lesions: each pair alone would not tell that all belong together.
    chain = [list(pair) for pair in pairwise(nevi[:10])]
    split = make_split(rows, seed=0, duplicates=chain)
    assert len({split[row.image_id] for row in nevi[:10]}) == 1


def test_a_written_split_is_read_back(tmp_path: Path) -> None:
    rows = _rows()
    split = make_split(rows, seed=0)
    write_split(tmp_path / "split.csv", rows, split)
    assert read_split(tmp_path / "split.csv", rows) == split


def test_a_split_file_in_which_a_lesion_crosses_is_refused(tmp_path: Path) -> None:
    rows = _rows()
    split = make_split(rows, seed=0)
    twin = next(row for row in rows if row.image_id.endswith("_1") and split[row.image_id] == "train")
    split[twin.image_id] = "test"
    write_split(tmp_path / "split.csv", rows, split)
    with pytest.raises(DataError, match=f"lesion {twin.lesion_id} lies in both"):
        read_split(tmp_path / "split.csv", rows)


def test_a_split_file_of_other_images_is_refused(tmp_path: Path) -> None:
    rows = _rows()
    write_split(tmp_path / "split.csv", rows[:-1], make_split(rows, seed=0))
    with pytest.raises(DataError, match=f"image {rows[-1].image_id} has part None"):
        read_split(tmp_path / "split.csv", rows)


@pytest.mark.parametrize(("validation", "test"), [(0.0, 0.2), (0.6, 0.4), (-0.1, 0.1)])
def test_shares_that_leave_nothing_are_refused(validation: float, test: float) -> None:
    with pytest.raises(DataError, match="shares must be positive"):
        make_split(_rows(), seed=0, validation=validation, test=test)


def test_none_of_the_1954_lesions_with_several_images_crosses(ham10000: Path) -> None:
    rows = read_dataset(ham10000)
    parts = _parts_by_lesion(rows, make_split(rows, seed=0))
    images = Counter(row.lesion_id for row in rows)
    assert sum(count > 1 for count in images.values()) >= 1954
    assert all(len(found) == 1 for found in parts.values())
